// Takes many waiting jobs from one lane to another: a reroute, or into a hold lane and back. docs/storage.md is the design note.
// Invariants: a block is moved as a whole or loses ids to a new one; a job is in one place at every commit; what stands in
// another lane for good (a reroute) says so in its record, what is held does not.
// Next room: actions/moving.ts, which walks lanes with these; sweeps.ts, which ends what is held.
import { sql } from './sql.ts';

/** Lanes of a queue with one of these routes, or any with $3 null, but for what is held: $1 tenant, $2 queue. */
export const lanesOf = sql<{ id: number; route: string }>`
select id, route from errand.lane
where tenant = $1 and queue = $2 and ($3::text[] is null or route = any($3)) and route not like ':hold.%' order by id`;

/** Hold lanes of an operation, to be forgotten when nothing stands there. */
export const forgetLanes = sql<never>`
delete from errand.lane where id = any($1::int[]) and route like ':hold.%'`;

/** The highest id that was given out: jobs above it came later. */
export const lastJob = sql<{ id: string }>`select coalesce(last_value, 0) id from errand.job_id_seq`;

/** What a move of blocks did. `looked` blocks it read, `used` of them it had room for; the last of those is at the key. */
export interface MovedBlocks {
  looked: number;
  used: number;
  prio: number | null;
  ord: string | null;
  moved: number;
  /** The heads jobs came to, and the first place in each. */
  heads: { prio: number; ord: string }[];
}

/**
 * Moves ready jobs: $1 from lane, $2 to lane, $3 priority and $4 place behind which to begin, $5 most blocks, $6 most jobs to
 * look at, $7 highest id, $8 whether the filter asks jobs themselves, $9 tags, $10 priorities, $11 created after, $12 before,
 * $13 most to move, $14 whether they keep their places, $15 whether the record follows, $16 lane of callbacks.
 */
export const moveBlocks = sql<MovedBlocks>`
with k as materialized (
  select seq, prio, epoch, attempt, timeout_seconds, at, ord, ids[pos + 1:] ids from errand.block
  where (lane, prio, ord) > ($1::int, $3::int2, $4::bigint) and lane <= $1
  order by lane, prio, ord limit $5::int for update
), t as materialized (
  select * from (select *, sum(cardinality(ids)) over (order by prio, ord, seq) - cardinality(ids) before from k) x
  where before < $6::int
), f as materialized (
  select seq, id, n, row_number() over (order by prio, ord, seq, n) rank from (
    select t.seq, t.prio, t.ord, i.id, i.n from t cross join lateral unnest(t.ids) with ordinality i(id, n)
    left join lateral (select tags, created_at from errand.job where $8::boolean and job.id = i.id offset 0) j on true
    where i.id <= $7::bigint and ($9::text[] is null or j.tags && $9) and ($10::int[] is null or t.prio % 10 = any($10))
      and ($11::timestamptz is null or j.created_at >= $11) and ($12::timestamptz is null or j.created_at < $12)) y
), m as materialized (
  select seq, array_agg(id order by n) ids from f where rank <= $13::int group by seq
), g as materialized (
  select nextval('errand.block_seq') nseq, y.* from (
    select t.seq, t.prio, t.ord, t.at, t.epoch, t.attempt, t.timeout_seconds, m.ids moved,
      case when cardinality(m.ids) < cardinality(t.ids)
        then array(select u.id from unnest(t.ids) with ordinality u(id, n) where u.id <> all(m.ids) order by u.n) end rest
    from m cross join lateral (select * from t where t.seq = m.seq) t
    order by t.prio, t.ord, t.seq) y
), w as (
  update errand.block b set lane = $2::int,
    ord = case when $14::boolean then b.ord else (select g.nseq from g where g.seq = b.seq) end
  where b.seq = any(array(select seq from g where rest is null))
), u as (
  update errand.block b set ids = (select g.rest from g where g.seq = b.seq), pos = 0
  where b.seq = any(array(select seq from g where rest is not null))
), n as (
  insert into errand.block (seq, ord, at, lane, prio, epoch, attempt, timeout_seconds, ids)
  select nseq, case when $14 then ord else nseq end, at, $2, prio, epoch, attempt, timeout_seconds, moved
  from g where rest is not null
), p as (
  insert into errand.place (job_id, blk)
  select i.id, g.nseq from g cross join lateral unnest(g.moved) i(id) where rest is not null order by i.id
  on conflict (job_id) do update set blk = excluded.blk
), j as (
  update errand.job set lane = $2, patches = coalesce(patches, 0) + 1,
    options = case when options ? 'callback' then jsonb_set(options, '{callback,lane}', to_jsonb($16::int)) else options end
  where $15::boolean and id = any(array(select unnest(moved) from g))
)
select (select count(*) from k)::int looked, (select count(*) from t)::int used, l.prio, l.ord,
  coalesce((select sum(cardinality(moved)) from g), 0)::int moved,
  coalesce((select json_agg(json_build_object('prio', prio, 'ord', ord::text)) from (
    select prio, min(case when $14 then ord else nseq end) ord from g group by prio) h), '[]') heads
from (select 1) one left join (select prio, ord from t order by prio desc, ord desc limit 1) l on true`;

/**
 * Moves jobs that wait for a moment: $1 from lane, $2 to lane, $3 whether those between two attempts, $4 moment and $5 id
 * behind which to begin, $6 most to look at; $7 to $13 as for blocks, $14 whether the record follows, $15 lane of callbacks.
 */
export const moveLater = sql<{ looked: number; moved: number; run_at: string | null; job_id: string | null }>`
with k as materialized (
  select job_id, run_at, prio from errand.later
  where (lane, (attempt > 1), run_at, job_id + 0) > ($1::int, $3::boolean, $4::timestamptz, $5::bigint)
    and (lane, (attempt > 1)) <= ($1, $3)
  order by lane, (attempt > 1), run_at, job_id + 0 limit $6::int for update
), m as materialized (
  select k.job_id from k
  left join lateral (select tags, created_at from errand.job where $8::boolean and job.id = k.job_id offset 0) j on true
  where k.job_id <= $7::bigint and ($9::text[] is null or j.tags && $9) and ($10::int[] is null or k.prio % 10 = any($10))
    and ($11::timestamptz is null or j.created_at >= $11) and ($12::timestamptz is null or j.created_at < $12)
  order by k.run_at, k.job_id limit $13::int
), u as (
  update errand.later set lane = $2::int where job_id = any(array(select job_id from m))
), j as (
  update errand.job set lane = $2, patches = coalesce(patches, 0) + 1,
    options = case when options ? 'callback' then jsonb_set(options, '{callback,lane}', to_jsonb($15::int)) else options end
  where $14::boolean and id = any(array(select job_id from m))
)
select (select count(*) from k)::int looked, (select count(*) from m)::int moved,
  to_char(l.run_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') run_at, l.job_id
from (select 1) one left join (select run_at, job_id from k order by run_at desc, job_id desc limit 1) l on true`;

/** Moves jobs that wait for the holder of their key: parameters as for moveLater, without state and moment. */
export const moveBlocked = sql<{ looked: number; moved: number; job_id: string | null }>`
with k as materialized (
  select job_id, prio from errand.blocked where lane = $1::int and job_id > $3::bigint
  order by job_id limit $4::int for update
), m as materialized (
  select k.job_id from k
  left join lateral (select tags, created_at from errand.job where $6::boolean and job.id = k.job_id offset 0) j on true
  where k.job_id <= $5::bigint and ($7::text[] is null or j.tags && $7) and ($8::int[] is null or k.prio % 10 = any($8))
    and ($9::timestamptz is null or j.created_at >= $9) and ($10::timestamptz is null or j.created_at < $10)
  order by k.job_id limit $11::int
), u as (
  update errand.blocked set lane = $2::int where job_id = any(array(select job_id from m))
), j as (
  update errand.job set lane = $2, patches = coalesce(patches, 0) + 1,
    options = case when options ? 'callback' then jsonb_set(options, '{callback,lane}', to_jsonb($13::int)) else options end
  where $12::boolean and id = any(array(select job_id from m))
)
select (select count(*) from k)::int looked, (select count(*) from m)::int moved, (select max(job_id) from k) job_id`;

/** How many jobs of some lanes ($1) run and were not asked to stop: $2 tags, $3 priorities, $4 created after, $5 before, $6 most. */
export const countRunning = sql<{ running: number }>`
select count(*)::int running from (
  select from errand.lease k cross join lateral unnest(k.ids) i(id)
  cross join lateral (select tags, created_at from errand.job where job.id = i.id offset 0) j
  where k.lane = any($1::int[]) and not i.id = any(coalesce(k.cancels, '{}'))
    and ($2::text[] is null or j.tags && $2) and ($3::int[] is null or k.prio % 10 = any($3))
    and ($4::timestamptz is null or j.created_at >= $4) and ($5::timestamptz is null or j.created_at < $5)
    and not exists (select from errand.outcome o where o.job_id = i.id and o.epoch = k.epoch offset 0)
  limit $6::int) r`;

/**
 * How many jobs wait in some lanes ($1), and since when the oldest does; counts no more than $2 blocks and $2 others. $3 tags,
 * $4 priorities, $5 created after, $6 before, $7 whether the filter asks jobs themselves, $8 states. Jobs looked at: $9.
 */
export const countWaiting = sql<{ jobs: number; at_least: boolean; oldest: Date | null }>`
with k as materialized (
  select b.* from unnest($1::int[]) l(lane) cross join lateral (
    select prio, at, ids[pos + 1:] ids from errand.block where (lane, prio, ord) > (l.lane, -1::int2, 0) and lane <= l.lane
    order by lane, prio, ord limit $2::int) b
  where 'queued' = any($8::text[]) limit $2
), f as materialized (
  select k.at, i.id from k cross join lateral unnest(k.ids) i(id)
  cross join lateral (select tags, created_at from errand.job where job.id = i.id offset 0) j
  where $7::boolean and ($3::text[] is null or j.tags && $3) and ($4::int[] is null or k.prio % 10 = any($4))
    and ($5::timestamptz is null or j.created_at >= $5) and ($6::timestamptz is null or j.created_at < $6) limit $9::int
), q as materialized (
  select coalesce(sum(cardinality(ids)), 0)::int n, min(at) oldest from k
  where not $7 and ($4 is null or prio % 10 = any($4))
  union all select count(*)::int, min(at) from f
), w as materialized (
  select v.job_id, j.created_at from unnest($1) l(lane) cross join lateral (
    select job_id, prio, attempt from errand.later
    where (lane, (attempt > 1), run_at, job_id + 0) > (l.lane, false, '-infinity'::timestamptz, 0) and lane <= l.lane
    order by lane, (attempt > 1), run_at, job_id + 0 limit $2) v
  cross join lateral (select tags, created_at from errand.job where job.id = v.job_id offset 0) j
  where case when v.attempt > 1 then 'retrying' else 'scheduled' end = any($8)
    and ($3 is null or j.tags && $3) and ($4 is null or v.prio % 10 = any($4))
    and ($5 is null or j.created_at >= $5) and ($6 is null or j.created_at < $6)
  union all
  select v.job_id, j.created_at from (
    select job_id, prio from errand.blocked where lane = any($1) and 'blocked' = any($8) order by job_id limit $2) v
  cross join lateral (select tags, created_at from errand.job where job.id = v.job_id offset 0) j
  where ($3 is null or j.tags && $3) and ($4 is null or v.prio % 10 = any($4))
    and ($5 is null or j.created_at >= $5) and ($6 is null or j.created_at < $6)
  limit $2
)
select ((select sum(n) from q) + (select count(*) from w))::int jobs,
  (select count(*) from k) >= $2 or (select count(*) from f) >= $9 or (select count(*) from w) >= $2 at_least,
  least((select min(oldest) from q), (select min(created_at) from w)) oldest`;
