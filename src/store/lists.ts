// Lists of jobs, page by page. Each statement walks one index in the order of its list, looks at a bounded number of rows,
// and states the facts of those that fit, all in one snapshot: a job is never shown in a state it did not have.
// Invariants: a walk never passes over a job that fits; no plan depends on statistics, so a range stands where an equation
// would let the planner choose another index (docs/storage.md, Lists).
// Next room: actions/list.ts, which chooses the walk.
import type { JobFacts } from './jobs.ts';
import { type Statement, sql } from './sql.ts';

/** A row of a walk: a job that fits, or, with `id` null, the last row that was looked at. */
export type Walked = { key: string[]; looked: number } & (JobFacts | { id: null });

/** A lane a list may have to walk. */
export interface Lane {
  id: number;
  route: string;
}

/** Lanes of a queue with one of these routes, or any with $3 null: $1 tenant, $2 queue. */
export const lanesOfQueue = sql<Lane>`
select id, route from errand.lane
where tenant = $1 and queue = $2 and ($3::text[] is null or route = any($3))`;

/** Lanes with one of these routes: $1 tenant. */
export const lanesOfType = sql<Lane>`
select id, route from errand.lane where tenant = $1 and route = any($2::text[])`;

export const allLanes = sql<Lane>`select id, route from errand.lane where tenant = $1`;

/** The ids between which jobs of a time were made: $1 from, $2 to, $3 seconds by which ids may be out of order. */
export const idsBetween = sql<{ floor: string; ceiling: string | null }>`
select case when $1::timestamptz is null then 0 else errand.first_job_since($1 - $3::float8 * interval '1 s') end floor,
  case when $2::timestamptz is not null then errand.first_job_since($2 + $3 * interval '1 s') end ceiling`;

/**
 * A page of a walk. Parameters of all: $1 queue, $2 type, $3 state, $4 tag, $5 error class, $6 created after, $7 created
 * before, $8 rows to answer, $9 rows to look at; from $10 on those of the walk. The walk says of each row whether a look
 * is worth it (`hit`) and where the list would go on behind it (`key`). Nothing is read that is not answered or passed
 * over: the walk is pulled row by row until $8 rows fit.
 */
function page(name: string, walk: string): Statement<Walked> {
  return {
    name,
    text: `
select f.*, w.key, w.looked::int, (select fingerprint from errand.outcome where job_id = f.id and f.class is not null
  order by epoch desc limit 1) fingerprint
from (select x.*, row_number() over () looked from (${walk}) x) w
left join lateral (
  select f.* from errand.job_facts(case when w.hit then array[w.id] end) f
  cross join lateral (select queue, route from errand.lane where lane.id = f.lane offset 0) l
  where ($1::text is null or l.queue = $1)
    and ($2::text is null or coalesce(f.options ->> 'type', l.route) = $2)
    and ($3::text is null or f.state = $3)
    and ($4::text is null or $4 = any(f.tags))
    and ($5::text is null or f.class::text = $5)
    and ($6::timestamptz is null or f.created_at >= $6)
    and ($7::timestamptz is null or f.created_at < $7)) f on true
where f.id is not null or w.looked = $9::int
limit $8::int`,
  };
}

/** Whether a job may fit by its outcomes, for an end or an error class: a third of the work that its facts are. */
function mayFit(id: string): string {
  return `
  ($3::text is null or $3 not in ('succeeded', 'dead', 'cancelled', 'expired')
    or exists (select from errand.outcome where job_id = ${id} and status::text = $3 offset 0))
  and ($5::text is null or exists (select from errand.outcome where job_id = ${id} and class::text = $5 offset 0)) hit`;
}

/** Every job, the newest first: $10 below, $11 floor. */
export const newest = page(
  'list_newest',
  `
select id, ${mayFit('id')}, array[id::text] key from (
  select id from errand.job where id < $10::bigint and id >= $11::bigint order by id desc limit $9::int) j`,
);

/** Jobs of some lanes ($12), the newest first. Only the $9 lanes with the newest jobs can have a part in the answer. */
export const newestOfLanes = page(
  'list_newest_of_lanes',
  `
select j.id, ${mayFit('j.id')}, array[j.id::text] key
from (
  select l.lane from unnest($12::int[]) l(lane) cross join lateral (
    select id from errand.job where (lane, id + 0) < (l.lane, $10::bigint) and (lane, id + 0) >= (l.lane, $11::bigint)
    order by lane desc, id + 0 desc limit 1) t
  order by t.id desc limit $9::int) h
cross join lateral (
  select id from errand.job where (lane, id + 0) < (h.lane, $10) and (lane, id + 0) >= (h.lane, $11)
  order by lane desc, id + 0 desc limit $9) j
order by j.id desc limit $9`,
);

/** Jobs with the tag $4, the newest first: $10 below, $11 floor. */
export const newestOfTag = page(
  'list_newest_of_tag',
  `
select t.job_id id, ${mayFit('t.job_id')}, array[t.job_id::text] key from (
  select job_id from errand.tag where tenant = 0 and tag = $4 and job_id < $10::bigint and job_id >= $11::bigint
  order by job_id desc limit $9::int) t`,
);

/** Jobs that succeeded, the newest first: $10 below, $11 floor, $12 lanes or null. */
export const succeeded = page(
  'list_succeeded',
  `
select job_id id, status = 'succeeded' and ($12::int[] is null or lane = any($12)) hit, array[job_id::text] key from (
  select job_id, status, lane from errand.outcome where job_id < $10::bigint and job_id >= $11::bigint
  order by job_id desc, epoch desc limit $9::int) o`,
);

/** Jobs that ended unhappily in the state $3, the newest first: $10 below, $11 floor. */
export const unhappy = page(
  'list_unhappy',
  `
select job_id id, $5::text is null or class::text = $5 hit, array[job_id::text] key from (
  select job_id, class from errand.outcome
  where status between 'dead' and 'expired' and (status, job_id) < ($3::text::errand.outcome_status, $10::bigint)
    and (status, job_id) >= ($3::text::errand.outcome_status, $11::bigint)
  order by status desc, job_id desc limit $9::int) o`,
);

/** The same for some lanes ($12). */
export const unhappyOfLanes = page(
  'list_unhappy_of_lanes',
  `
select o.job_id id, $5::text is null or o.class::text = $5 hit, array[o.job_id::text] key
from (
  select l.lane from unnest($12::int[]) l(lane) cross join lateral (
    select job_id from errand.outcome
    where status between 'dead' and 'expired' and (status, lane, job_id) < ($3::text::errand.outcome_status, l.lane, $10::bigint)
      and (status, lane, job_id) >= ($3::text::errand.outcome_status, l.lane, $11::bigint)
    order by status desc, lane desc, job_id desc limit 1) t
  order by t.job_id desc limit $9::int) h
cross join lateral (
  select job_id, class from errand.outcome
  where status between 'dead' and 'expired' and (status, lane, job_id) < ($3::text::errand.outcome_status, h.lane, $10)
    and (status, lane, job_id) >= ($3::text::errand.outcome_status, h.lane, $11)
  order by status desc, lane desc, job_id desc limit $9) o
order by o.job_id desc limit $9`,
);

/** Jobs that wait for the holder of their key, the newest first: $10 below, $11 floor, $12 lanes or null. */
export const blocked = page(
  'list_blocked',
  `
select job_id id, $12::int[] is null or lane = any($12) hit, array[job_id::text] key from (
  select job_id, lane from errand.blocked where job_id < $10::bigint and job_id >= $11::bigint
  order by job_id desc limit $9::int) b`,
);

/**
 * Jobs that are ready, as they will run: $10 priority, $11 place and $12 id behind which to begin, $13 lanes. Suspects
 * (priority 10 and more) come last. Several blocks may have one place, because a changed job keeps its own: a place is read
 * as a whole, by id, and the one at which the page before ended once more.
 */
export const queued = page(
  'list_queued',
  `
select i.id, true hit, array[b.prio::text, b.ord::text, i.id::text] key
from (
  select lane, $10::int2 prio, $11::bigint ord from unnest($13::int[]) l(lane)
  union
  (select b.lane, b.prio, b.ord from (
    select l.lane from unnest($13) l(lane) cross join lateral (
      select prio, ord from errand.block where (lane, prio, ord) > (l.lane, $10, $11) and lane <= l.lane
      order by lane, prio, ord limit 1) t
    order by t.prio, t.ord limit $9::int) h
  cross join lateral (
    select lane, prio, ord from errand.block where (lane, prio, ord) > (h.lane, $10, $11) and lane <= h.lane
    order by lane, prio, ord limit $9) b
  order by b.prio, b.ord limit $9)
  order by prio, ord
) b
cross join lateral (
  select u.id from errand.block s cross join lateral unnest(s.ids[s.pos + 1:]) u(id)
  where s.lane = b.lane and s.prio = b.prio and s.ord = b.ord order by u.id offset 0) i
where (b.prio, b.ord, i.id) > ($10, $11, $12::bigint)
limit $9`,
);

/**
 * Jobs that run, by lease: $10 lease and $11 id behind which to begin, $12 lanes or null. A job whose start has ended may
 * still stand in a lease, even in an older one than the lease it runs under now.
 */
export const running = page(
  'list_running',
  `
select i.id, i.id is not null and not exists (
    select from errand.outcome o where o.job_id = i.id and o.epoch = l.epoch offset 0) hit,
  array[l.id::text, coalesce(i.id, 9223372036854775807)::text] key
from (select id, lane, epoch, ids from errand.lease where id >= $10::bigint order by id limit $9::int) l
left join lateral (
  select u.id from unnest(l.ids) u(id)
  where (l.id, u.id) > ($10, $11::bigint) and ($12::int[] is null or l.lane = any($12)) order by u.id) i on true
limit $9`,
);

/** Jobs that wait for a moment, in the state $3, by that moment: $10 moment and $11 id behind which to begin, $12 lanes. */
export const waiting = page(
  'list_waiting',
  `
select w.job_id id, true hit,
  array[to_char(w.run_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), w.job_id::text] key
from (
  select l.lane from unnest($12::int[]) l(lane) cross join lateral (
    select run_at, job_id from errand.later
    where (lane, (attempt > 1), run_at, job_id + 0) > (l.lane, $3 = 'retrying', $10::timestamptz, $11::bigint)
      and (lane, (attempt > 1)) <= (l.lane, $3 = 'retrying') order by lane, (attempt > 1), run_at, job_id + 0 limit 1) t
  order by t.run_at, t.job_id limit $9::int) h
cross join lateral (
  select run_at, job_id from errand.later
  where (lane, (attempt > 1), run_at, job_id + 0) > (h.lane, $3 = 'retrying', $10, $11)
    and (lane, (attempt > 1)) <= (h.lane, $3 = 'retrying') order by lane, (attempt > 1), run_at, job_id + 0 limit $9) w
order by w.run_at, w.job_id limit $9`,
);
