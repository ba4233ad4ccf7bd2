// Every statement that moves a lease: claim, heartbeat, settle, rescue, promote. docs/storage.md is its design note.
// Invariants: a lease is written only for ids its block lost in the same statement; the insert of the outcome row
// (job_id, epoch) decides between completion, recovery and release; blocks only ever lose ids.
// Next room: actions/claim.ts and actions/settle.ts.
import type { BackoffPolicy } from '../domain/backoff.ts';
import type { ErrorClass, ErrorSource } from '../domain/outcome.ts';
import type { Start } from '../domain/start.ts';
import type { Db } from './db.ts';
import { hot, numbers, sql } from './sql.ts';

/** A job handed out: its start, what it may do, and the payload as it was sent. */
export interface Claimed {
  lease: string;
  job_id: string;
  epoch: number;
  attempt: number;
  lane: number;
  prio: number;
  owner: number;
  started_at: Date;
  until: Date;
  deadline: Date;
  max_attempts: number;
  created_at: Date;
  /** From when this start was due to now, in ms. */
  wait_ms: number;
  expired: boolean;
  backoff: BackoffPolicy | null;
  payload: string;
}

/** What a claim saw at a head: its first live block and the snapshot it was seen in. */
export interface SeenHead {
  head: number;
  first_live: string;
  xmin: string;
  xmax: string;
}

interface ClaimRow extends Claimed, SeenHead {}

/**
 * Claims up to `want` jobs from heads, walking them by age and priority and locking no more blocks than it needs.
 * Returns the jobs and, for every head that is not empty, its first live block.
 */
export async function claimJobs(
  db: Db,
  ask: {
    lanes: readonly number[];
    prios: readonly number[];
    cursors: readonly string[];
    want: number;
    owner: number;
    lease_seconds: number;
    blocks: number;
  },
): Promise<{ jobs: Claimed[]; heads: SeenHead[] }> {
  const rows = await db.many(claim, [
    ask.lanes,
    ask.prios,
    ask.cursors,
    ask.want,
    ask.owner,
    ask.lease_seconds,
    ask.blocks,
  ]);
  const jobs: Claimed[] = [];
  const heads: SeenHead[] = [];
  for (const row of rows) {
    if (row.lease === null) heads.push(row);
    else jobs.push(row);
  }
  return { jobs, heads };
}

// The locking sub-select sits in a lateral under a limit, so it locks block after block until there are enough; joins
// would let the planner lock a whole lane. `ids` shrink by key, never by ctid: see docs/storage.md, "Traps".
// A priority step is worth 30 s of age, so no priority waits for ever.
export const claim = hot<ClaimRow>('claim')`
with hd as materialized (
  select h.i, h.lane, h.prio, b.ord first_live, b.at + (h.prio % 10) * interval '30 s' age
  from unnest($1::int[], $2::int2[], $3::bigint[]) with ordinality h(lane, prio, cur, i)
  cross join lateral (select ord, at from errand.block where lane = h.lane and prio = h.prio and ord > h.cur
    order by ord limit 1) b
), c as materialized (
  select b.*, row_number() over () k from (select * from hd order by age) h
  cross join lateral (
    select seq, lane, prio, epoch, attempt, timeout_seconds, ids, pos, at, cardinality(ids) - pos n from errand.block
    where lane = h.lane and prio = h.prio and ord >= h.first_live order by ord limit $7 for update skip locked) b
  limit $7::int
), t as materialized (
  select *, least(n, $4::int - before)::int take
  from (select *, (sum(n) over (order by k))::int - n before from c) x where before < $4
), d as (
  delete from errand.block where seq = any(array(select seq from t where take = n)) returning seq
), u as (
  update errand.block set pos = pos + (select take from t where t.seq = block.seq)
  where seq = any(array(select seq from t where take < n)) returning seq
), l as (
  insert into errand.lease (blk, until, deadline, owner, lane, epoch, prio, attempt, ids)
  select seq, errand.now() + least($6::int, timeout_seconds + 2) * interval '1 s',
    errand.now() + timeout_seconds * interval '1 s', $5::int, lane, epoch, prio, attempt, ids[pos + 1:pos + take]
  from t where take > 0 and seq in (select seq from d union all select seq from u)
  returning *
)
select l.id lease, i.id job_id, l.epoch, l.attempt, l.lane, l.prio, l.owner, l.started_at, l.until, l.deadline,
  j.max_attempts, j.created_at, (extract(epoch from l.started_at - t.at) * 1000)::float8 wait_ms, coalesce(j.expires_at <= errand.now(), false) expired,
  j.backoff, j.payload,
  null::int head, null::bigint first_live, null::bigint xmin, null::bigint xmax
from l cross join lateral (select at from t where t.seq = l.blk) t cross join lateral unnest(l.ids) i(id)
left join lateral (select max_attempts, created_at, run_at, expires_at, backoff, payload from errand.job
  where job.id = i.id offset 0) j on true
union all
select null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
  i::int, first_live, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
  pg_snapshot_xmax(pg_current_snapshot())::text::bigint
from hd`;

/** Heads that hold something now: a skip scan of the index, two steps per head. */
export const listHeads = sql<{ lane: number; prio: number }>`
with recursive r as (
  (select lane, prio from errand.block order by lane, prio limit 1)
  union all
  select n.lane, n.prio from r cross join lateral (
    select lane, prio from errand.block where (lane, prio) > (r.lane, r.prio) order by lane, prio limit 1) n
)
select lane, prio from r`;

/**
 * Extends leases from now on, to the job's own deadline at most, and 2 s more in which its holder can say so itself: $1 leases, $2 jobs, $3 epochs, $4 seconds. A start that is
 * not in the answer has lost its lease or has ended.
 */
export const heartbeat = hot<{ lease: string; job_id: string; until: Date; cancel_requested: boolean }>(
  'heartbeat',
)`
with u as (
  update errand.lease set until = least(errand.now() + $4::int * interval '1 s', deadline + interval '2 s')
  where id = any(array(select id from errand.lease where id = any($1::bigint[]) order by id for update))
  returning id, until, cancels
)
select u.id lease, x.job_id, u.until, x.job_id = any(coalesce(u.cancels, '{}')) cancel_requested
from unnest($1::bigint[], $2::bigint[], $3::int[]) x(lease, job_id, epoch)
cross join lateral (select * from u where u.id = x.lease) u
where not exists (select from errand.outcome o where o.job_id = x.job_id and o.epoch = x.epoch)`;

/** Extends whole leases of one process: $1 leases, $2 seconds. */
export const extendLeases = hot<{ lease: string; cancels: string[] | null }>('extend_leases')`
update errand.lease set until = least(errand.now() + $2::int * interval '1 s', deadline + interval '2 s')
where id = any(array(select id from errand.lease where id = any($1::bigint[]) order by id for update))
returning id lease, cancels`;

/** How a start ended. `delay_ms` is set where another start follows: 0 = at once. */
export interface Ending {
  start: Start;
  status: 'succeeded' | 'dead' | 'cancelled' | 'expired' | 'retry' | 'lost' | 'released' | 'snoozed';
  class: ErrorClass | null;
  source: ErrorSource | null;
  http_status: number | null;
  error: string | null;
  created_uri: string | null;
  result: string | null;
  delay_ms: number | null;
}

/** An ending that was accepted, with what it became: a wish to retry is `cancelled` where a cancel was asked for. */
export interface Settled {
  job_id: string;
  epoch: number;
  status: Ending['status'];
  next_at: Date | null;
}

/**
 * Writes endings where their leases stand and no other ending came first; deletes `emptied` leases. What is not in the
 * answer was refused. Two forms: the hot one for batches in which nothing runs again.
 */
export async function settleJobs(
  db: Db,
  endings: readonly Ending[],
  emptied: readonly string[],
): Promise<Settled[]> {
  const leases = [...new Set(endings.map((ending) => ending.start.lease))];
  const params: unknown[] = [
    numbers(leases.concat(emptied)),
    numbers(emptied),
    numbers(endings.map((ending) => ending.start.job_id)),
    numbers(endings.map((ending) => ending.start.lease)),
    numbers(endings.map((ending) => ending.start.epoch)),
    numbers(endings.map((ending) => ending.start.attempt)),
    numbers(endings.map((ending) => ending.start.lane)),
    numbers(endings.map((ending) => ending.start.prio)),
    numbers(endings.map((ending) => ending.start.owner)),
    // What expired at its claim never started.
    numbers(endings.map((one) => (one.status === 'expired' ? 'null' : one.start.started_at.getTime()))),
    endings.map((ending) => ending.result),
  ];
  const plain = endings.every((ending) => ending.status === 'succeeded' && ending.created_uri === null);
  if (!plain) {
    return db.many(settleAny, [
      ...params,
      endings.map((ending) => ending.status),
      endings.map((ending) => ending.class),
      endings.map((ending) => ending.source),
      endings.map((ending) => ending.http_status),
      endings.map((ending) => ending.error),
      endings.map((ending) => ending.created_uri),
      endings.map((ending) => ending.delay_ms),
    ]);
  }
  const { settled, all } = await db.one(settleSucceeded, params);
  if (all) return endings.map((ending) => accepted(ending));
  // A batch may hold a stale start and the present one of the same job: the epoch tells them apart.
  const kept = new Set(settled);
  return endings
    .filter((ending) => kept.has(`${ending.start.job_id}.${ending.start.epoch}`))
    .map((ending) => accepted(ending));
}

function accepted(ending: Ending): Settled {
  return { job_id: ending.start.job_id, epoch: ending.start.epoch, status: ending.status, next_at: null };
}

export const settleSucceeded = hot<{ all: boolean; settled: string[] | null }>('settle_succeeded')`
with h as materialized (
  select id from errand.lease where id = any($1::bigint[]) order by id for update
), o as (
  insert into errand.outcome (job_id, epoch, attempt, lane, prio, worker, started_at, status, result)
  select x.job_id, x.epoch, x.attempt, x.lane, x.prio, x.worker, to_timestamp(x.started_ms / 1000.0), 'succeeded', x.result
  from unnest($3::bigint[], $4::bigint[], $5::int[], $6::int2[], $7::int[], $8::int2[], $9::int[], $10::float8[],
    $11::text[]) x(job_id, lease, epoch, attempt, lane, prio, worker, started_ms, result)
  where x.lease = any(array(select id from h))
  on conflict do nothing returning job_id, epoch
), d as (
  delete from errand.lease
  where id = any(array(select id from h)) and (id = any($2::bigint[]) or cardinality(ids) = 1)
), n as (select count(*) = cardinality($3) "all" from o)
select n."all", case when not n."all" then array(select job_id || '.' || epoch from o) end settled from n`;

export const settleAny = hot<Settled>('settle_any')`
with h as materialized (
  select id, cancels from errand.lease where id = any($1::bigint[]) order by id for update
), c as materialized (
  select coalesce(array_agg(u.id), '{}') ids from h cross join lateral unnest(h.cancels) u(id)
), x as materialized (
  select x.*, x.delay_ms is not null and not x.job_id = any((select ids from c)::bigint[]) again
  from unnest($3::bigint[], $4::bigint[], $5::int[], $6::int2[], $7::int[], $8::int2[], $9::int[], $10::float8[],
    $11::text[], $12::text[], $13::text[], $14::text[], $15::int2[], $16::text[], $17::text[], $18::float8[])
    x(job_id, lease, epoch, attempt, lane, prio, worker, started_ms, result, status, class, source, http_status, error,
      created_uri, delay_ms)
  where x.lease = any(array(select id from h))
), o as (
  insert into errand.outcome (job_id, epoch, attempt, lane, prio, worker, started_at, status, result, class, source,
    http_status, error, created_uri, next_at)
  select job_id, epoch, attempt, lane, prio, worker, to_timestamp(started_ms / 1000.0),
    case when delay_ms is null or again then status else 'cancelled' end::errand.outcome_status, result,
    class::errand.failure_class, source::errand.failure_source, http_status, error, created_uri,
    case when again then errand.now() + delay_ms * interval '1 ms' end
  from x on conflict do nothing returning job_id, epoch, attempt, lane, prio, status, next_at
), n as materialized (
  select o.job_id, o.lane, o.epoch + 1 epoch, o.next_at, j.timeout_seconds,
    (o.attempt + (o.status not in ('released', 'snoozed'))::int)::int2 attempt,
    (case o.status when 'lost' then o.prio % 10 + 10 when 'retry' then o.prio % 10 else o.prio end)::int2 prio
  from o cross join lateral (select timeout_seconds from errand.job where job.id = o.job_id offset 0) j
  where o.next_at is not null
), w as (
  insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt)
  select job_id, next_at, lane, timeout_seconds, epoch, prio, attempt from n where next_at > errand.now()
), k as materialized (
  -- A suspect gets a block of its own: whoever dies with it must not convict its neighbours.
  select nextval('errand.block_seq') seq, g.* from (
    select lane, prio, epoch, attempt, timeout_seconds, array_agg(job_id order by job_id) ids
    from n where next_at <= errand.now()
    group by lane, prio, epoch, attempt, timeout_seconds, case when prio >= 10 then job_id end) g
), b as (
  insert into errand.block (seq, ord, lane, prio, epoch, attempt, timeout_seconds, ids)
  select seq, seq, lane, prio, epoch, attempt, timeout_seconds, ids from k
), p as (
  insert into errand.place (job_id, blk) select i.id, k.seq from k cross join lateral unnest(k.ids) i(id)
  on conflict (job_id) do update set blk = excluded.blk
), d as (
  delete from errand.lease
  where id = any(array(select id from h)) and (id = any($2::bigint[]) or cardinality(ids) = 1)
)
select job_id, epoch, status, next_at from o`;

/** What is recorded of one start; absent = it has no outcome yet. */
export const findOutcomes = sql<{
  job_id: string;
  epoch: number;
  status: Ending['status'];
  class: ErrorClass | null;
  source: ErrorSource | null;
  next_at: Date | null;
}>`
select o.job_id, o.epoch, o.status, o.class, o.source, o.next_at from unnest($1::bigint[], $2::int[]) x(job_id, epoch)
join errand.outcome o on o.job_id = x.job_id and o.epoch = x.epoch`;

/** A lease that ran out, with one of its jobs that has not ended; `job_id` null = all of them have. */
export interface Abandoned {
  lease: string;
  epoch: number;
  attempt: number;
  lane: number;
  prio: number;
  owner: number;
  started_at: Date;
  overdue: boolean;
  cancel_requested: boolean;
  job_id: string | null;
  max_attempts: number;
  backoff: BackoffPolicy | null;
  losses: number;
}

/** Leases that ran out, locked until the transaction ends: $1 floor, $2 most. */
export const findAbandoned = sql<Abandoned>`
select l.id lease, l.epoch, l.attempt, l.lane, l.prio, l.owner, l.started_at, l.deadline <= errand.now() overdue,
  coalesce(i.id = any(l.cancels), false) cancel_requested, i.id job_id, i.max_attempts, i.backoff, i.losses
from (select * from errand.lease where id >= $1::bigint and until < errand.now() order by id limit $2::int
  for update skip locked) l
left join lateral (
  select u.id, j.max_attempts, j.backoff, (
    select count(*)::int from (select status from errand.outcome where job_id = u.id order by epoch desc limit 2) z
    where z.status = 'lost') losses
  from unnest(l.ids) u(id)
  cross join lateral (select max_attempts, backoff from errand.job where job.id = u.id offset 0) j
  where not exists (select from errand.outcome o where o.job_id = u.id and o.epoch = l.epoch)) i on true`;

/** The lowest lease that stands: dead index entries below it need not be read again. */
export const lowestLease = sql<{ id: string | null }>`
select (select id from errand.lease where id >= $1::bigint order by id limit 1) id`;

/** Moves due jobs from `later` into blocks: $1 most, $2 how many seconds back to look. `next_ms`: when the next is due. */
export const promoteDue = hot<{ moved: number; lane: number; prio: number; next_ms: number | null }>(
  'promote_due',
)`
with m as materialized (
  delete from errand.later where job_id = any(array(
    select job_id from errand.later where run_at <= errand.now() and run_at > errand.now() - $2::int * interval '1 s'
    order by run_at limit $1::int for update skip locked))
  returning *
), g as materialized (
  select nextval('errand.block_seq') seq, y.* from (
    select lane, prio, epoch, attempt, timeout_seconds, array_agg(job_id order by run_at, job_id) ids from m
    group by lane, prio, epoch, attempt, timeout_seconds, case when prio >= 10 then job_id end) y
), b as (
  insert into errand.block (seq, ord, lane, prio, epoch, attempt, timeout_seconds, ids)
  select seq, seq, lane, prio, epoch, attempt, timeout_seconds, ids from g
), p as (
  insert into errand.place (job_id, blk) select i.id, g.seq from g cross join lateral unnest(g.ids) i(id)
  on conflict (job_id) do update set blk = excluded.blk
), x as (
  select (extract(epoch from run_at - errand.now()) * 1000)::float8 next_ms from errand.later
  where run_at > errand.now() order by run_at limit 1
)
select coalesce(y.moved, 0)::int moved, y.lane, y.prio, (select next_ms from x) next_ms
from (select 1) one left join (
  select sum(cardinality(ids)) moved, lane, prio from g group by lane, prio) y on true`;

/** Whether this owner holds a suspect: a process holds at most one, or its neighbours would be convicted with it. */
export const holdsSuspect = sql<{ held: boolean }>`
select exists (select from errand.lease where owner = $1::int and prio >= 10) held`;
