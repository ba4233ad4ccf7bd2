// Operations as they are kept: begun once for a key, stepped by whoever holds the row, steered between two steps.
// Invariants: a step and what it says of itself commit together; one process at a time steps an operation; what is finished
// is due no more.
// Next room: moves.ts, letters.ts and sweeps.ts, what the steps do.
import type { Extent, OperationFacts, OperationKind, Phase } from '../domain/operation.ts';
import { sql } from './sql.ts';

/** An operation in the hands of who steps it. */
export interface HeldOperation extends OperationFacts {
  request_id: string;
  plan: Record<string, unknown>;
  cursor: Record<string, unknown>;
  failures: number;
  /** When it was begun, to the microsecond. */
  began: string;
  /** How long ago this step was due. */
  late_ms: number;
}

/** What is to be begun. */
export interface NewOperation {
  kind: OperationKind;
  target: string;
  params: object;
  reason: string | null;
  phase: Phase;
  expected: Extent;
}

/** No row: the key names another already. */
export const insertOperation = sql<{ id: string }>`
insert into errand.operation (kind, target, params, reason, phase, expected, actor, request_id, idem_key, print)
values ($1, $2, $3::jsonb, $4, $5, $6::jsonb, $7, $8, $9, $10)
on conflict (tenant, idem_key) do nothing returning id`;

export const findByKey = sql<{ id: string; print: Buffer }>`
select id, print from errand.operation where tenant = $1 and idem_key = $2`;

export const findOperation = sql<OperationFacts>`
select id, kind, target, params, state, phase, reason, actor, pause_reason, error, expected, matched::float8 matched, counts,
  undo_until, created_at, started_at, finished_at
from errand.operation where id = $1::bigint`;

/** The same, locked: between two steps. */
export const lockOperation = sql<OperationFacts & { can_undo: boolean }>`
select id, kind, target, params, state, phase, reason, actor, pause_reason, error, expected, matched::float8 matched, counts,
  undo_until, created_at, started_at, finished_at, undo_until is null or undo_until > errand.now() can_undo
from errand.operation where id = $1::bigint for update`;

/** Operations, the newest first: $1 below which id, $2 kind, $3 state, $4 how many to look at. */
export const walkOperations = sql<OperationFacts & { hit: boolean }>`
select id, kind, target, params, state, phase, reason, actor, pause_reason, error, expected, matched::float8 matched, counts,
  undo_until, created_at, started_at, finished_at,
  ($2::text is null or kind = $2) and ($3::text is null or state = $3) hit
from errand.operation where id < $1::bigint order by id desc limit $4::int`;

/** What became of one dead letter. */
export interface ItemFacts {
  job_id: string;
  outcome: string;
  next_id: string | null;
  at: Date;
}

/** Items by job: $1 operation, $2 behind which job, $3 outcome or null, $4 how many. */
export const walkItems = sql<ItemFacts>`
select job_id, outcome, next_id, at from errand.operation_item
where operation_id = $1::bigint and job_id > $2::bigint and ($3::text is null or outcome = $3)
order by job_id limit $4::int`;

export const insertItems = sql<never>`
insert into errand.operation_item (operation_id, job_id, outcome, next_id)
select $1::bigint, u.* from unnest($2::bigint[], $3::text[], $4::bigint[]) u(job_id, outcome, next_id)
on conflict do nothing`;

/** Says of letters that they are back in the list: $1 operation, $2 jobs. */
export const returnItems = sql<never>`
update errand.operation_item set outcome = 'put_back', at = errand.now()
where operation_id = $1::bigint and job_id = any($2::bigint[])`;

/** The operation that has been due longest and that nobody steps. */
export const takeDue = sql<HeldOperation>`
select id, kind, target, params, state, phase, reason, actor, request_id, pause_reason, error, expected,
  matched::float8 matched, counts, undo_until, created_at, started_at, finished_at, plan, cursor, failures,
  to_char(created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') began,
  extract(epoch from errand.now() - next_at)::float8 * 1000 late_ms
from errand.operation where next_at <= errand.now() order by next_at limit 1 for update skip locked`;

/** In how many ms the next step of any operation is due. */
export const nextDue = sql<{ ms: number | null }>`
select (select extract(epoch from next_at - errand.now())::float8 * 1000 from errand.operation
  where next_at is not null order by next_at limit 1) ms`;

/**
 * Writes what a step came to: $2 state, $3 phase, $4 pause reason, $5 matched, $6 counts, $7 plan, $8 cursor, $9 ms until the
 * next step or null for none, $10 seconds of the undo window when it begins, else null.
 */
export const advance = sql<never>`
update errand.operation set state = $2, phase = $3, pause_reason = $4, matched = $5::bigint, counts = $6::jsonb,
  plan = $7::jsonb, cursor = $8::jsonb, error = null, failures = 0, started_at = coalesce(started_at, errand.now()),
  next_at = errand.now() + $9::float8 * interval '1 ms',
  undo_until = case when $10::int is null then undo_until else errand.now() + $10 * interval '1 s' end,
  finished_at = case when $2 in ('done', 'undone', 'cancelled') then coalesce(finished_at, errand.now()) end
where id = $1::bigint`;

/** Writes that a step failed, and why: $3 ms until it is tried again, null: it waits for somebody. */
export const noteFailure = sql<never>`
update errand.operation set error = $2, failures = failures + 1, started_at = coalesce(started_at, errand.now()),
  next_at = errand.now() + $3::float8 * interval '1 ms', state = case when $3 is null then 'failed' else state end
where id = $1::bigint and next_at is not null and failures = $4::int`;

/** Lets an operation go on by another way: $2 state, $3 phase, $4 whether a step is due now. */
export const steer = sql<never>`
update errand.operation set state = $2, phase = $3, pause_reason = null, error = null, failures = 0,
  next_at = case when $4::boolean then errand.now() end, cursor = case when $3 in ('undo', 'withdraw') then '{}' else cursor end,
  finished_at = case when $2 in ('done', 'undone', 'cancelled') then errand.now() end
where id = $1::bigint`;

/** How many operations have a step to come, by kind. */
export const countOperations = sql<{ kind: string; n: number }>`
select kind, count(*)::int n from (
  select kind, state from errand.operation where next_at is not null order by next_at limit 1000) o
where state = 'running' group by kind`;

/**
 * Forgets one operation that was over before $1 days, with the action that began it, behind its items, $2 at a time; and as many
 * actions of before then that began none. Answers how many rows went.
 */
export const forgetOperations = sql<{ forgotten: number }>`
with o as materialized (
  select id from errand.operation
  where next_at is null and finished_at < errand.now() - $1::int * interval '1 day' order by id limit 1
), i as (
  delete from errand.operation_item where operation_id = (select id from o) and job_id = any(array(
    select job_id from errand.operation_item where operation_id = (select id from o) order by job_id limit $2::int))
  returning 1
), d as (
  delete from errand.operation where id = (select id from o) and (select count(*) from i) < $2 returning id
), a as (
  delete from errand.action where operation_id = (select id from d) or id = any(array(
    select id from errand.action
    where operation_id is null and expires_at < errand.now() - $1 * interval '1 day' order by id limit $2))
  returning 1
)
select ((select count(*) from i) + (select count(*) from d) + (select count(*) from a))::int forgotten`;

/** Tells other processes that a step is due. */
export const notifyOperation = sql<unknown>`select pg_notify('errand_operation', '')`;
