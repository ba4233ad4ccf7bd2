// How a start ends: settle, and what the rescue needs to know of leases that ran out. docs/storage.md is the design note.
// Invariants: the insert of the outcome row (job_id, epoch) decides between completion, recovery and release; an ending is
// written only while its lease stands; what runs again goes into a new block.
// Next room: actions/settle.ts and actions/chores.ts.
import type { BackoffPolicy } from '../domain/backoff.ts';
import type { ErrorClass, ErrorSource } from '../domain/outcome.ts';
import type { Start } from '../domain/start.ts';
import { type Db, type Pool, sqlState } from './db.ts';
import { hot, numbers, sql } from './sql.ts';

/** How a start ended. `delay_ms` is set where another start follows: 0 = at once. */
export interface Ending {
  start: Start;
  status: 'succeeded' | 'dead' | 'cancelled' | 'expired' | 'retry' | 'lost' | 'released' | 'snoozed';
  class: ErrorClass | null;
  source: ErrorSource | null;
  http_status: number | null;
  error: string | null;
  /** Of a failure: what it has in common with others of its cause (domain/fingerprint.ts). */
  fingerprint: string | null;
  created_uri: string | null;
  result: string | null;
  delay_ms: number | null;
  /** It was over before it started, so it has no start in the history. */
  unstarted?: true;
}

/** What most endings have none of. */
export const noDetails: Omit<Ending, 'start' | 'status'> = {
  class: null,
  source: null,
  http_status: null,
  error: null,
  fingerprint: null,
  created_uri: null,
  result: null,
  delay_ms: null,
};

/** Whether the job ends with this ending. */
export function isTerminal({ status }: { status: Ending['status'] }): boolean {
  return status === 'succeeded' || status === 'dead' || status === 'cancelled' || status === 'expired';
}

/** An ending that was accepted, with what it became: a wish to retry is `cancelled` where a cancel was asked for. */
export interface Settled {
  job_id: string;
  epoch: number;
  status: Ending['status'];
  next_at: Date | null;
}

/** What became of one ending; null = refused. `repeated`: it had been accepted before. */
export type Answered = (Settled & { repeated: boolean }) | null;

/**
 * Writes endings where their leases stand and no other ending came first; deletes `emptied` leases. Answers in the order
 * of the endings. Not for transactions: see settleWithin.
 */
export async function settleJobs(
  db: Pool,
  endings: readonly Ending[],
  emptied: readonly string[],
): Promise<Answered[]> {
  const plain = endings.every((ending) => ending.status === 'succeeded' && ending.created_uri === null);
  if (plain) {
    try {
      return await settlePlain(db, endings, emptied);
    } catch (error) {
      if (sqlState(error) !== unique_violation) throw error;
      // One of them is a repeat, or lost a race: the other form passes over it.
    }
  }
  return matched(endings, await settleWithin(db, endings, emptied));
}

const unique_violation = '23505';

/** Nearly all endings: successes, of which the lease knows everything but the job and its result. */
async function settlePlain(
  db: Pool,
  endings: readonly Ending[],
  emptied: readonly string[],
): Promise<Answered[]> {
  const byLease = Map.groupBy(endings, (ending) => ending.start.lease);
  // A lease that is only deleted has no endings here.
  const leases = [...new Set([...byLease.keys(), ...emptied])].sort(byNumber);
  const grouped = leases.flatMap((lease) => byLease.get(lease) ?? []);
  const firsts: number[] = [];
  let next = 1;
  for (const lease of leases) {
    firsts.push(next);
    next += byLease.get(lease)?.length ?? 0;
  }
  const { standing } = await db.one(settleSucceeded, [
    numbers(leases),
    numbers(firsts),
    numbers(grouped.map((ending) => ending.start.job_id)),
    grouped.some((ending) => ending.result !== null) ? grouped.map((ending) => ending.result) : null,
    numbers(emptied),
  ]);
  const stands = new Set(standing);
  return endings.map(({ start: { lease, job_id, epoch } }) =>
    stands.has(lease) ? { job_id, epoch, status: 'succeeded', next_at: null, repeated: false } : null,
  );
}

/** Ids are numbers as text: the order in which every statement locks. */
function byNumber(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : 1);
}

/** The answers in the order of the endings. */
export function matched(endings: readonly Ending[], settled: readonly Settled[]): Answered[] {
  const byStart = new Map(settled.map((one) => [`${one.job_id}.${one.epoch}`, one]));
  return endings.map(({ start }) => {
    const key = `${start.job_id}.${start.epoch}`;
    const one = byStart.get(key);
    // The same start twice in one batch: the first is the one that was written.
    byStart.delete(key);
    return one === undefined ? null : { ...one, repeated: false };
  });
}

/** As settleJobs, for endings of every kind and for transactions, which an insert that fails would break. */
export function settleWithin(
  tx: Db,
  endings: readonly Ending[],
  emptied: readonly string[],
): Promise<Settled[]> {
  const leases = [...new Set(endings.map((ending) => ending.start.lease))];
  return tx.many(settleAny, [
    numbers(leases.concat(emptied)),
    numbers(emptied),
    numbers(endings.map((ending) => ending.start.job_id)),
    numbers(endings.map((ending) => ending.start.lease)),
    numbers(endings.map((ending) => ending.start.epoch)),
    numbers(endings.map((ending) => ending.start.attempt)),
    numbers(endings.map((ending) => ending.start.lane)),
    numbers(endings.map((ending) => ending.start.prio)),
    numbers(endings.map((ending) => ending.start.owner)),
    numbers(endings.map((one) => (one.unstarted ? 'null' : one.start.started_at.getTime()))),
    endings.map((ending) => ending.result),
    endings.map((ending) => ending.status),
    endings.map((ending) => ending.class),
    endings.map((ending) => ending.source),
    endings.map((ending) => ending.http_status),
    endings.map((ending) => ending.error),
    endings.map((ending) => ending.created_uri),
    endings.map((ending) => ending.delay_ms),
    endings.map((ending) => ending.fingerprint),
  ]);
}

// Under the lock on the lease nobody else ends its starts, so a conflict is a repeat that crossed its first; `on conflict`
// would cost every row a probe of the index and 48 bytes of WAL. A row of one job goes with the end of that job only: the job
// of this ending may have been taken out of it (apart.ts). $2: where the jobs of each lease begin in $3 and $4.
export const settleSucceeded = hot<{ standing: string[] }>('settle_succeeded')`
with h as materialized (
  select l.*, x.first, coalesce(($2::int[])[x.n + 1] - 1, cardinality($3::bigint[])) last
  from unnest($1::bigint[], $2::int[]) with ordinality x(lease, first, n)
  cross join lateral (
    select id, owner, lane, epoch, prio, attempt, started_at, case when cardinality(ids) = 1 then ids[1] end alone
    from errand.lease where id = x.lease for update) l
), o as (
  insert into errand.outcome (job_id, epoch, attempt, lane, prio, worker, started_at, status, result)
  select u.job_id, h.epoch, h.attempt, h.lane, h.prio, h.owner, h.started_at, 'succeeded', u.result
  from h cross join lateral unnest(($3::bigint[])[h.first:h.last], ($4::text[])[h.first:h.last]) u(job_id, result)
), d as (
  delete from errand.lease where id = any(array(
    select id from h where alone = any(($3::bigint[])[first:last]) or id = any($5::bigint[])))
)
select array(select id from h) standing`;

export const settleAny = hot<Settled>('settle_any')`
with h as materialized (
  select id, cancels from errand.lease where id = any($1::bigint[]) order by id for update
), c as materialized (
  select coalesce(array_agg(u.id), '{}') ids from h cross join lateral unnest(h.cancels) u(id)
), x as materialized (
  select x.*, x.delay_ms is not null and not x.job_id = any((select ids from c)::bigint[]) again
  from unnest($3::bigint[], $4::bigint[], $5::int[], $6::int2[], $7::int[], $8::int2[], $9::int[], $10::float8[],
    $11::text[], $12::text[], $13::text[], $14::text[], $15::int2[], $16::text[], $17::text[], $18::float8[], $19::text[])
    x(job_id, lease, epoch, attempt, lane, prio, worker, started_ms, result, status, class, source, http_status, error,
      created_uri, delay_ms, fingerprint)
  where x.lease = any(array(select id from h))
), o as (
  insert into errand.outcome (job_id, epoch, attempt, lane, prio, worker, started_at, status, result, class, source,
    http_status, error, created_uri, next_at, fingerprint)
  select job_id, epoch, attempt, lane, prio, worker, to_timestamp(started_ms / 1000.0),
    case when delay_ms is null or again then status else 'cancelled' end::errand.outcome_status, result,
    class::errand.failure_class, source::errand.failure_source, http_status, error, created_uri,
    case when again then errand.now() + delay_ms * interval '1 ms' end, fingerprint
  from x on conflict do nothing
  returning job_id, epoch, attempt, lane, prio, status, started_at, next_at, finished_at, class, source, http_status, fingerprint
), n as materialized (
  select o.job_id, o.lane, o.epoch + 1 epoch, o.next_at, j.timeout_seconds, j.keyed,
    (o.attempt + (o.status not in ('released', 'snoozed'))::int)::int2 attempt,
    (case o.status when 'lost' then least(o.prio / 10 + 1, 2) * 10 + o.prio % 10 when 'retry' then o.prio % 10
      else o.prio end)::int2 prio,
    -- What was lost is as old as its lost start: it goes before what came meanwhile.
    case o.status when 'lost' then o.started_at end at
  from o cross join lateral (
    select timeout_seconds, case when options ? 'unique' then true end keyed from errand.job
    where job.id = o.job_id offset 0) j
  where o.next_at is not null
), w as (
  insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt, keyed)
  select job_id, next_at, lane, timeout_seconds, epoch, prio, attempt, keyed from n where next_at > errand.now()
), k as materialized (
  -- A suspect gets a block of its own: whoever dies with it must not convict its neighbours.
  select nextval('errand.block_seq') seq, g.* from (
    select lane, prio, epoch, attempt, timeout_seconds, coalesce(min(at), errand.now()) at,
      array_agg(job_id order by job_id) ids
    from n where next_at <= errand.now()
    group by lane, prio, epoch, attempt, timeout_seconds, case when prio >= 10 then job_id end) g
), b as (
  insert into errand.block (seq, ord, at, lane, prio, epoch, attempt, timeout_seconds, ids)
  select seq, seq, at, lane, prio, epoch, attempt, timeout_seconds, ids from k
), p as (
  insert into errand.place (job_id, blk) select i.id, k.seq from k cross join lateral unnest(k.ids) i(id)
  on conflict (job_id) do update set blk = excluded.blk
), t as (
  insert into errand.dead_letter (job_id, died_at, lane, http_status, class, source, fingerprint)
  select job_id, finished_at, lane, http_status, class, source, fingerprint from o where status = 'dead'
), d as (
  delete from errand.lease
  where id = any(array(select id from h)) and (id = any($2::bigint[])
    or cardinality(ids) = 1 and ids[1] = any(array(select job_id from x)))
)
select job_id, epoch, status, next_at from o`;

/** What is recorded of the nth start, and whether these are its result and URI; absent = it has no outcome yet. */
export const findOutcomes = sql<{
  n: number;
  brings_the_same: boolean;
  job_id: string;
  epoch: number;
  status: Ending['status'];
  class: ErrorClass | null;
  source: ErrorSource | null;
  next_at: Date | null;
}>`
select x.n::int, o.job_id, o.epoch, o.status, o.class, o.source, o.next_at,
  o.result is not distinct from x.result and o.created_uri is not distinct from x.created_uri brings_the_same
from unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) with ordinality x(job_id, epoch, result, created_uri, n)
join errand.outcome o on o.job_id = x.job_id and o.epoch = x.epoch`;

/** What the last attempt of a job that failed was recorded with. */
export const findLastFailure = sql<
  Pick<Ending, 'http_status' | 'error' | 'fingerprint'> & { class: ErrorClass; source: ErrorSource }
>`
select class, source, http_status, error, fingerprint from errand.outcome
where job_id = $1::bigint and class is not null order by epoch desc limit 1`;

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
  /** For how long from now on further attempts may begin; null = without end. */
  left_ms: number | null;
  callback: boolean;
  /** The job's own type, where its lane does not say it. */
  type: string | null;
  losses: number;
}

/** Leases that ran out, locked until the transaction ends: $1 floor, $2 most. */
export const findAbandoned = sql<Abandoned>`
select l.id lease, l.epoch, l.attempt, l.lane, l.prio, l.owner, l.started_at, l.deadline <= errand.now() overdue,
  coalesce(i.id = any(l.cancels), false) cancel_requested, i.id job_id, i.max_attempts, i.backoff, i.left_ms, i.callback, i.type, i.losses
from (select * from errand.lease where id >= $1::bigint and until < errand.now() order by id limit $2::int
  for update skip locked) l
left join lateral (
  select u.id, j.max_attempts, j.backoff, j.left_ms, coalesce(j.options ? 'callback', false) callback,
    j.options ->> 'type' type, (
    select count(*)::int from (select status from errand.outcome where job_id = u.id order by epoch desc limit 2) z
    where z.status = 'lost') losses
  from unnest(l.ids) u(id)
  cross join lateral (select max_attempts, backoff, options,
    (extract(epoch from coalesce(run_at, created_at) + (options ->> 'max_age_seconds')::int * interval '1 s' - errand.now())
      * 1000)::float8 left_ms
    from errand.job where job.id = u.id offset 0) j
  where not exists (select from errand.outcome o where o.job_id = u.id and o.epoch = l.epoch offset 0)) i on true`;

/** The lowest lease that stands: dead index entries below it need not be read again. */
export const lowestLease = sql<{ id: string | null }>`
select (select id from errand.lease where id >= $1::bigint order by id limit 1) id`;
