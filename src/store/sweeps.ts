// Ends what an operation has set aside: jobs in hold lanes are cancelled, running ones are asked to stop.
// Invariants: a job leaves where it waits in the statement that writes its outcome; the outcome names the lane of its record,
// never the hold lane.
// Next room: actions/hold.ts.
import type { JobState } from '../domain/job.ts';
import { sql } from './sql.ts';

/** A job that was ended. */
export interface Swept {
  job_id: string;
  epoch: number;
  attempt: number;
  lane: number;
  /** The job's own type, where its lane does not say it. */
  type: string | null;
  callback: boolean;
  state: JobState;
}

/** Cancels ready jobs of a lane: $1 lane, $2 most blocks, $3 jobs after which to stop, $4 why. */
export const sweepBlocks = sql<Swept>`
with k as materialized (
  select seq, prio, ord, epoch, attempt, ids[pos + 1:] ids from errand.block
  where (lane, prio, ord) > ($1::int, -1::int2, 0) and lane <= $1 order by lane, prio, ord limit $2::int for update
), t as materialized (
  select * from (select *, sum(cardinality(ids)) over (order by prio, ord, seq) - cardinality(ids) before from k) x
  where before < $3::int
), d as (
  delete from errand.block where seq = any(array(select seq from t))
), i as materialized (
  select u.id job_id, t.epoch, t.attempt, t.prio, j.* from t cross join lateral unnest(t.ids) u(id)
  cross join lateral (select lane, options ->> 'type' "type", coalesce(options ? 'callback', false) callback
    from errand.job where job.id = u.id offset 0) j
), o as (
  insert into errand.outcome (job_id, lane, prio, epoch, attempt, status, source, error)
  select job_id, lane, prio, epoch, attempt - 1, 'cancelled', 'errand', $4 from i
)
select job_id, epoch, attempt - 1 attempt, lane, "type", callback, 'queued' state from i`;

/** Cancels jobs of a lane that wait for a moment: $1 lane, $2 most, $3 why. */
export const sweepLater = sql<Swept>`
with m as materialized (
  delete from errand.later where job_id = any(array(
    select job_id from errand.later
    where (lane, (attempt > 1), run_at, job_id + 0) > ($1::int, false, '-infinity'::timestamptz, 0) and lane <= $1
    order by lane, (attempt > 1), run_at, job_id + 0 limit $2::int for update))
  returning job_id, epoch, attempt, prio
), i as materialized (
  select m.*, j.* from m cross join lateral (
    select lane, options ->> 'type' "type", coalesce(options ? 'callback', false) callback
    from errand.job where job.id = m.job_id offset 0) j
), o as (
  insert into errand.outcome (job_id, lane, prio, epoch, attempt, status, source, error)
  select job_id, lane, prio, epoch, attempt - 1, 'cancelled', 'errand', $3 from i
)
select job_id, epoch, attempt - 1 attempt, lane, "type", callback,
  case when attempt > 1 then 'retrying' else 'scheduled' end state from i`;

/** Cancels jobs of a lane that wait for the holder of their key: $1 lane, $2 most, $3 why. */
export const sweepBlocked = sql<Swept>`
with m as materialized (
  delete from errand.blocked where job_id = any(array(
    select job_id from errand.blocked where lane = $1::int order by job_id limit $2::int for update))
  returning job_id, epoch, attempt, prio
), i as materialized (
  select m.*, j.* from m cross join lateral (
    select lane, options ->> 'type' "type", coalesce(options ? 'callback', false) callback
    from errand.job where job.id = m.job_id offset 0) j
), o as (
  insert into errand.outcome (job_id, lane, prio, epoch, attempt, status, source, error)
  select job_id, lane, prio, epoch, attempt - 1, 'cancelled', 'errand', $3 from i
)
select job_id, epoch, attempt - 1 attempt, lane, "type", callback, 'blocked' state from i`;

/**
 * Asks running jobs of some lanes ($1) to stop: $2 lease behind which to begin, $3 most leases, $4 highest id, $5 tags,
 * $6 priorities, $7 created after, $8 before, $9 most to ask.
 */
export const stopRunning = sql<{ lease: string; looked: number; jobs: string[] }>`
with k as materialized (
  select id, lane, prio, epoch, ids, cancels from errand.lease where id > $2::bigint order by id limit $3::int for update
), m as materialized (
  select id, array_agg(job) jobs from (
    select k.id, i.id job from k cross join lateral unnest(k.ids) i(id)
    cross join lateral (select tags, created_at from errand.job where job.id = i.id offset 0) j
    where k.lane = any($1::int[]) and i.id <= $4::bigint and not i.id = any(coalesce(k.cancels, '{}'))
      and ($5::text[] is null or j.tags && $5) and ($6::int[] is null or k.prio % 10 = any($6))
      and ($7::timestamptz is null or j.created_at >= $7) and ($8::timestamptz is null or j.created_at < $8)
      and not exists (select from errand.outcome o where o.job_id = i.id and o.epoch = k.epoch offset 0)
    order by k.id, i.id limit $9::int) x
  group by id
), u as (
  update errand.lease l set cancels = coalesce(l.cancels, '{}') || (select m.jobs from m where m.id = l.id)
  where l.id = any(array(select id from m))
)
select (select max(id) from k) lease, (select count(*) from k)::int looked,
  coalesce(array(select unnest(jobs) from m), '{}') jobs`;
