// How a job is read, taken out of its line and asked to stop.
// Invariant: a job that has left its place is taken out by nobody: the statement that takes it names the place.
// Next room: actions/inspect.ts, which reads; actions/cancel.ts, which takes out.

import type { JobState } from '../domain/job.ts';
import type { JobOptions } from '../domain/options.ts';
import type { ErrorClass, ErrorSource } from '../domain/outcome.ts';
import type { Claimed } from './claims.ts';
import { hot, sql } from './sql.ts';

/** What is true of a job, as `errand.job_facts` says it; without payload and result. */
export interface JobFacts {
  id: string;
  lane: number;
  priority: number;
  max_attempts: number;
  timeout_seconds: number;
  created_at: Date;
  run_at: Date | null;
  expires_at: Date | null;
  backoff: unknown;
  tags: string[] | null;
  options: JobOptions | null;
  /** How often the job was changed; null = never. */
  patches: number | null;
  state: JobState;
  epoch: number;
  attempt: number;
  started_at: Date | null;
  finished_at: Date | null;
  next_at: Date | null;
  worker: number | null;
  cancel_requested: boolean;
  class: ErrorClass | null;
  source: ErrorSource | null;
  http_status: number | null;
  error: string | null;
  fingerprint: string | null;
  created_uri: string | null;
  has_result: boolean;
  /** The latest progress, as JSON text, and its place among the writes of it. */
  progress: string | null;
  progress_seq: number | null;
}

// The fingerprint is looked up where something failed, and nowhere else.
export const findJobs = hot<JobFacts>('find_jobs')`
select f.*, (select fingerprint from errand.outcome where job_id = f.id and f.class is not null
  order by epoch desc limit 1) fingerprint
from errand.job_facts($1) f`;

/** The same with the results, for callers who have waited for these jobs. */
export const findAwaited = hot<JobFacts & { result: string | null }>('find_awaited')`
select f.*, (select result from errand.outcome where job_id = f.id and status = 'succeeded') result,
  (select fingerprint from errand.outcome where job_id = f.id and f.class is not null order by epoch desc limit 1) fingerprint
from errand.job_facts($1) f`;

/** Of these jobs, the ones that have ended. */
export const findEnded = hot<{ job_id: string }>('find_ended')`
select distinct o.job_id from unnest($1::bigint[]) i(id)
cross join lateral (select job_id from errand.outcome where job_id = i.id and status <= 'expired' offset 0) o`;

/** What a claim needs of a job. */
export const findClaimed = sql<
  Pick<
    Claimed,
    'max_attempts' | 'created_at' | 'expired' | 'retry_until' | 'backoff' | 'options' | 'payload' | 'callback'
  >
>`
select max_attempts, created_at, coalesce(expires_at <= errand.now(), false) expired, backoff, options,
  (extract(epoch from coalesce(run_at, created_at)) * 1000 + (options ->> 'max_age_seconds')::int * 1000.0)::float8 retry_until,
  coalesce(options ? 'callback', false) callback, payload
from errand.job where id = $1`;

export const findPayload = sql<{ payload: string }>`select payload from errand.job where id = $1`;

export const findResult = sql<{ result: string | null; created_uri: string | null }>`
select result, created_uri from errand.outcome where job_id = $1 and status = 'succeeded'`;

/**
 * Takes a job that has not started out of where it waits and ends it: $1 id, $2 status, $3 highest epoch that may be
 * ended this way, $4 detail, $5 whether one with a callback may be taken, which needs a transaction. `taken` 0 with the
 * same `blk` in two tries means it has started or ended (trap: it may move in between, so one try proves nothing).
 */
export const takeOut = sql<{
  taken: number;
  blk: string | null;
  lane: number | null;
  /** The job's own type, where its lane does not say it. */
  type: string | null;
  callback: boolean;
  /** The state it was taken out of. */
  state: JobState | null;
  prio: number | null;
  /** Its place in a line, and since when it stood there; null: it waited elsewhere. */
  ord: string | null;
  since: string | null;
}>`
with j as materialized (
  select blk, lane, options ->> 'type' type, coalesce(options ? 'callback', false) callback from errand.job
  where id = $1::bigint
), p as materialized (
  select coalesce((select blk from errand.place where job_id = $1), (select blk from j)) blk
  where $5::boolean or not (select callback from j)
), r as (
  update errand.block b set ids = array_remove(b.ids[b.pos + 1:], $1), pos = 0
  where b.seq = (select blk from p) and $1 = any(b.ids[b.pos + 1:]) and cardinality(b.ids) - b.pos > 1 and b.epoch <= $3::int
  returning b.lane, b.prio, b.epoch, b.attempt, b.ord, b.at
), l as (
  -- The last one takes the block with it: nobody may ever come to claim an empty one.
  delete from errand.block b
  where b.seq = (select blk from p) and b.ids[b.pos + 1:] = array[$1] and b.epoch <= $3
  returning b.lane, b.prio, b.epoch, b.attempt, b.ord, b.at
), w as (
  delete from errand.later where job_id = $1 and epoch <= $3 and exists (select from p)
  returning lane, prio, epoch, attempt, null::bigint, null::timestamptz
), k as (
  delete from errand.blocked where job_id = $1 and epoch <= $3 and exists (select from p)
  returning lane, prio, epoch, attempt, null::bigint, null::timestamptz
), y as materialized (
  select *, 'queued' state from r union all select *, 'queued' from l
  union all select *, case when attempt > 1 then 'retrying' else 'scheduled' end from w
  union all select *, 'blocked' from k
), o as (
  insert into errand.outcome (job_id, lane, prio, epoch, attempt, status, source, error)
  -- Not the lane it stood in: that may be one in which it was held.
  select $1, (select lane from j), prio, epoch, attempt - 1, $2::errand.outcome_status, 'errand', $4
  from y returning lane
)
select (select count(*) from o)::int taken, (select blk from p) blk, (select lane from o) lane,
  (select type from j) type, coalesce((select callback from j), false) callback, (select state from y) state,
  (select prio from y) prio, (select ord from y) ord, (select at::text from y) since`;

/** Asks the holder of a running job to stop; the flag lives in the lease row, so it ends with the lease. */
export const requestCancel = sql<{ id: string }>`
update errand.lease set cancels = array_append(coalesce(cancels, '{}'), $1::bigint)
where blk = $2::bigint and $1 = any(ids) and not $1 = any(coalesce(cancels, '{}')) returning id`;

/** Jobs whose moment to expire has come; `$1` at most, those within the last `$2` seconds. */
export const dueToExpire = sql<{ job_id: string; expires_at: Date }>`
select job_id, expires_at from errand.expiring
where expires_at <= errand.now() and expires_at > errand.now() - $2::int * interval '1 s' order by expires_at limit $1`;

export const forgetExpiring = sql<never>`
delete from errand.expiring where job_id = any($1::bigint[]) and expires_at <= errand.now()`;
