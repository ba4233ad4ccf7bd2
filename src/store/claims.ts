// How a job gets into hands and stays there: promote, claim, heartbeat. docs/storage.md is the design note.
// Invariants: a lease is written only for ids its block lost in the same statement; blocks only ever lose ids.
// Next room: actions/claim.ts; endings.ts is how it gets out of hands again.
import type { BackoffPolicy } from '../domain/backoff.ts';
import type { JobOptions } from '../domain/options.ts';
import type { Start } from '../domain/start.ts';
import type { Db } from './db.ts';
import { hot, sql } from './sql.ts';

/** A job handed out: its start, what it may do, and the payload as it was sent. */
export interface Claimed extends Start {
  until: Date;
  deadline: Date;
  max_attempts: number;
  created_at: Date;
  /** From when this start was due to now, in ms. */
  wait_ms: number;
  expired: boolean;
  /** In ms since 1970: no further attempt begins later; null = without end. */
  retry_until: number | null;
  backoff: BackoffPolicy | null;
  options: JobOptions | null;
  payload: string;
}

/** What a claim saw at a head: its first live block and the snapshot it was seen in. */
export interface SeenHead {
  head: number;
  first_live: string;
  xmin: string;
  xmax: string;
  /** Blocks that the whole claim took from. */
  blocks: number;
}

/** One row of the answer: a lease with what its starts have in common, or a job of it, or a head. */
interface ClaimRow {
  lease: string | null;
  job_id: string | null;
  max_attempts: number;
  created_at: Date;
  payload: string;
  rare: Pick<Claimed, 'expired' | 'retry_until' | 'backoff' | 'options'> | null;
  facts: LeaseFacts | null;
  seen: SeenHead | null;
}

/** Times are in ms since 1970. */
type LeaseFacts = Pick<Claimed, 'epoch' | 'attempt' | 'lane' | 'prio' | 'owner' | 'wait_ms'> &
  Record<'started_at' | 'until' | 'deadline', number>;

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
    /** Who claims: one for all jobs, or, with `apart`, one for each. */
    owners: readonly number[];
    /** Whether every job gets a lease of its own, because each goes its own way from here. */
    apart: boolean;
    lease_seconds: number;
    blocks: number;
  },
): Promise<{ jobs: Claimed[]; heads: SeenHead[] }> {
  const rows = await db.many(claim, [
    ask.lanes,
    ask.prios,
    ask.cursors,
    ask.want,
    ask.owners,
    ask.lease_seconds,
    ask.blocks,
    ask.apart,
  ]);
  return read(rows);
}

function read(rows: readonly ClaimRow[]): { jobs: Claimed[]; heads: SeenHead[] } {
  const jobs: Claimed[] = [];
  const heads: SeenHead[] = [];
  const leases = new Map<string, Common>();
  for (const { lease, facts, seen } of rows) {
    if (seen !== null) heads.push(seen);
    if (lease !== null && facts !== null) leases.set(lease, commonOf(lease, facts));
  }
  let common: Common | undefined;
  for (const { lease, job_id, max_attempts, created_at, payload, rare } of rows) {
    if (lease === null || job_id === null) continue;
    if (common?.lease !== lease) common = leases.get(lease) as Common;
    // Written out: these objects are most of what a claim leaves to the garbage collector.
    jobs.push({
      lease: common.lease,
      job_id,
      epoch: common.epoch,
      attempt: common.attempt,
      lane: common.lane,
      prio: common.prio,
      owner: common.owner,
      started_at: common.started_at,
      until: common.until,
      deadline: common.deadline,
      wait_ms: common.wait_ms,
      max_attempts,
      created_at,
      expired: rare?.expired ?? false,
      retry_until: rare?.retry_until ?? null,
      backoff: rare?.backoff ?? null,
      options: rare?.options ?? null,
      callback: rare?.options?.callback !== undefined,
      payload,
    });
  }
  return { jobs, heads };
}

type Common = ReturnType<typeof commonOf>;

/** Jobs of a lease share its dates, so nobody may change one. */
function commonOf(lease: string, facts: LeaseFacts) {
  return {
    ...facts,
    lease,
    started_at: new Date(facts.started_at),
    until: new Date(facts.until),
    deadline: new Date(facts.deadline),
  };
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
    errand.now() + timeout_seconds * interval '1 s', ($5::int[])[least(before + g.n, cardinality($5))], lane, epoch, prio,
    attempt, g.ids
  from t cross join lateral (
    select ids[pos + 1:pos + take] ids, 1 n where not $8::boolean
    union all
    select array[v.id], v.n from unnest(ids[pos + 1:pos + take]) with ordinality v(id, n) where $8) g
  where take > 0 and seq in (select seq from d union all select seq from u)
  returning *
)
select id lease, null::bigint job_id, null::int2 max_attempts, null::timestamptz created_at, null::text payload, null::json rare,
  json_build_object('epoch', epoch, 'attempt', attempt, 'lane', lane, 'prio', prio, 'owner', owner,
    'started_at', extract(epoch from started_at) * 1000, 'until', extract(epoch from until) * 1000,
    'deadline', extract(epoch from deadline) * 1000,
    'wait_ms', extract(epoch from started_at - (select at from t where t.seq = l.blk)) * 1000) facts, null::json seen
from l
union all
select l.id, i.id, j.max_attempts, j.created_at, j.payload, j.rare, null, null
from l cross join lateral unnest(l.ids) i(id)
left join lateral (
  select max_attempts, created_at, payload,
    case when expires_at is not null or backoff is not null or options is not null then json_build_object(
      'expired', coalesce(expires_at <= errand.now(), false), 'backoff', backoff, 'options', options,
      'retry_until', extract(epoch from coalesce(run_at, created_at)) * 1000 + (options ->> 'max_age_seconds')::int * 1000.0)
      end rare
  from errand.job where job.id = i.id offset 0) j on true
union all
select null, null, null, null, null, null, null,
  json_build_object('head', i, 'first_live', first_live::text, 'xmin', pg_snapshot_xmin(pg_current_snapshot())::text,
    'xmax', pg_snapshot_xmax(pg_current_snapshot())::text, 'blocks', (select count(*) from t where take > 0))
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
 * The same, but reading heads $1, $2 behind cursors $3 only: the dead entries before them are not read again. What lies
 * between those heads is scanned as above. They begin with lane 0, which is none, so that all there is lies behind one.
 */
export const findHeads = sql<{ lane: number; prio: number }>`
with recursive k as materialized (
  select lane, prio, cur, coalesce(lead(lane) over w, 2147483647) to_lane, coalesce(lead(prio) over w, 0::int2) to_prio
  from unnest($1::int[], $2::int2[], $3::bigint[]) u(lane, prio, cur) window w as (order by lane, prio)
), r as (
  select n.lane, n.prio, k.to_lane, k.to_prio from k cross join lateral (
    select lane, prio from errand.block where (lane, prio) > (k.lane, k.prio) and (lane, prio) < (k.to_lane, k.to_prio)
    order by lane, prio limit 1) n
  union all
  select n.lane, n.prio, r.to_lane, r.to_prio from r cross join lateral (
    select lane, prio from errand.block where (lane, prio) > (r.lane, r.prio) and (lane, prio) < (r.to_lane, r.to_prio)
    order by lane, prio limit 1) n
)
select lane, prio from r
union all
select k.lane, k.prio from k cross join lateral (
  select from errand.block where lane = k.lane and prio = k.prio and ord > k.cur order by ord limit 1) b`;

/** A lease that stands after a heartbeat; or a start that was asked about and has ended, as `job_id.epoch`. */
export type Beaten =
  | { lease: string; until: Date; cancels: string[] | null; ended: null }
  | { lease: null; until: null; cancels: null; ended: string };

/**
 * Extends leases from now on, to the job's own deadline at most, and 2 s more in which its holder can say so itself:
 * $1 leases, $2 seconds of each, $3 jobs, $4 epochs.
 */
export const heartbeat = hot<Beaten>('heartbeat')`
with u as (
  -- A lease of several jobs serves all of them: a short wish for one must not shorten it for the others.
  update errand.lease set until = greatest(case when cardinality(ids) > 1 then until end,
    least(errand.now() + ($2::int[])[array_position($1, id)] * interval '1 s', deadline + interval '2 s'))
  where id = any(array(select id from errand.lease where id = any($1::bigint[]) order by id for update))
  returning id, until, cancels
)
select id lease, until, cancels, null::text ended from u
union all
select null, null, null, x.job_id || '.' || x.epoch from unnest($3::bigint[], $4::int[]) x(job_id, epoch)
where exists (select from errand.outcome o where o.job_id = x.job_id and o.epoch = x.epoch offset 0)`;

/**
 * Extends whole leases of one process: $1 leases, $2 seconds; $3 jobs, $4 epochs of the starts in them that it runs. Never
 * shortens one: it may have been handed over, and so extended to its deadline, while this was on its way.
 */
export const extendLeases = hot<{ lease: string | null; cancels: string[] | null; job_id: string | null }>(
  'extend_leases',
)`
with u as (
  update errand.lease set until = greatest(until, least(errand.now() + $2::int * interval '1 s', deadline + interval '2 s'))
  where id = any(array(select id from errand.lease where id = any($1::bigint[]) order by id for update))
  returning id, cancels
)
select id lease, cancels, null::bigint job_id from u
union all
-- A target may end a start by its lease while the request to it is open.
select null, null, x.job_id from unnest($3::bigint[], $4::int[]) x(job_id, epoch)
where exists (select from errand.outcome o where o.job_id = x.job_id and o.epoch = x.epoch offset 0)`;

/**
 * Moves due jobs from `later` into blocks: $1 most, $2 how many seconds back to look. `next_ms`: when the next is due. Those
 * with a key stay; `keyed`: there are some. `blocked`: jobs wait for the holder of their key.
 */
export const promoteDue = hot<{
  moved: number;
  /** Of these, those that had counted attempts behind them. */
  retried: number;
  lane: number;
  prio: number;
  next_ms: number | null;
  keyed: boolean;
  blocked: boolean;
}>('promote_due')`
with m as materialized (
  delete from errand.later where job_id = any(array(
    select job_id from errand.later where run_at <= errand.now() and run_at > errand.now() - $2::int * interval '1 s'
      and keyed is null
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
select coalesce(y.moved, 0)::int moved, coalesce(y.retried, 0)::int retried, y.lane, y.prio, (select next_ms from x) next_ms,
  exists (select from errand.later where keyed and (keyed, run_at) <= (true, errand.now())) keyed,
  exists (select from errand.blocked where job_id > 0) blocked
from (select 1) one left join (
  select sum(cardinality(ids)) moved, sum(cardinality(ids)) filter (where attempt > 1) retried, lane, prio from g group by lane, prio) y on true`;

/** Which of these owners hold a job that was lost twice: each may hold one, or its neighbours would be convicted with it. */
export const holdSuspects = sql<{ owner: number }>`
select distinct owner from errand.lease where owner = any($1::int[]) and prio >= 20`;
