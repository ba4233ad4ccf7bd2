// How slots become jobs: what is due is read without a lock, judged outside, and written in one transaction with the jobs,
// the rows of the ledger and the advance of the schedules.
// Invariants: only who holds the term writes; a schedule that is not as it was read is left for the next look; the key of
// the ledger (schedule, slot) makes a second firing of a slot impossible.
// Next room: actions/fire.ts, which judges; leader.ts, whose term fences.
import type { Definition, Pauses, SlotOutcome, SlotReason } from '../domain/schedule.ts';
import type { Db } from './db.ts';
import { hot, numbers, sql } from './sql.ts';

/** A schedule that is due, as it was read: `version` and `turn` change with whatever firing depends on. */
export interface DueSchedule extends Pauses {
  id: number;
  name: string;
  version: number;
  turn: number;
  definition: Definition;
  payload_bytes: number;
  watermark: Date;
  owed: Date[];
  held: Date | null;
  open_jobs: string[];
  stopping: string[];
}

/** What stood in the room of schedules at one moment of the database's clock. */
export interface DueNow {
  now: Date;
  /** When the next one is due, in ms from now; null: none is. */
  next_ms: number | null;
  due: DueSchedule[];
}

/**
 * Schedules that are due, the longest overdue first. Looks `back_seconds` back, because the index keeps the places of
 * schedules that have moved on for as long as an old snapshot stands.
 */
export async function findDue(db: Db, most: number, back_seconds: number): Promise<DueNow> {
  const rows = await db.many(dueSchedules, [most, back_seconds]);
  const { now, next_ms } = rows[0] as { now: Date; next_ms: number | null };
  return { now, next_ms, due: rows.filter((row) => row.id !== null) as DueSchedule[] };
}

export const dueSchedules = hot<Partial<DueSchedule> & { now: Date; next_ms: number | null }>(
  'due_schedules',
)`
select n.now, n.next_ms, s.*
from (
  select errand.now() now, (
    select (extract(epoch from next_due - errand.now()) * 1000)::float8 from errand.schedule
    where next_due > errand.now() order by next_due limit 1) next_ms
) n
left join lateral (
  select id, name, version, turn, definition, octet_length(payload) payload_bytes, watermark, owed, held, open_jobs,
    stopping, paused_at, resumed_at
  from errand.schedule
  where next_due <= errand.now() and next_due > errand.now() - $2::float8 * interval '1 s' order by next_due limit $1::int
) s on true`;

/**
 * Locks those schedules that are still as they were read, and no other: $1 ids, $2 versions, $3 turns, $4 whether the
 * payload is wanted. A caller who changes one just now keeps nobody waiting.
 */
export const lockSchedules = sql<{ id: number; payload: string | null }>`
select s.id, case when u.fires then s.payload end payload
from unnest($1::int[], $2::int[], $3::int[], $4::bool[]) u(id, version, turn, fires) join errand.schedule s on s.id = u.id
where s.version = u.version and s.turn = u.turn order by s.id for update of s skip locked`;

/** The same, waiting for whoever has them: callers who come one upon the other must not keep a schedule from firing. */
export const awaitSchedules = sql<{ id: number; payload: string | null }>`
select s.id, case when u.fires then s.payload end payload
from unnest($1::int[], $2::int[], $3::int[], $4::bool[]) u(id, version, turn, fires) join errand.schedule s on s.id = u.id
where s.version = u.version and s.turn = u.turn order by s.id for update of s`;

/** Jobs a schedule is remembered to have open. */
export const most_open = 50;

/** A row for the ledger. */
export interface LedgerRow {
  schedule_id: number;
  slot: Date;
  due_at: Date;
  outcome: SlotOutcome;
  reason: SlotReason | null;
  job_id: string | null;
  /** The last slot of those the row stands for, when it stands for many. */
  through: Date | null;
  slots: number | null;
}

/** Where a schedule stands after its slots were judged. */
export interface Advance {
  schedule_id: number;
  watermark: Date;
  owed: readonly Date[];
  held: Date | null;
  next_slot: Date | null;
  next_due: Date | null;
  /** Of its open jobs, those that have ended. */
  ended: readonly string[];
  /** Jobs that are to be asked to stop. */
  stopping: readonly string[];
}

/** Writes rows of the ledger and moves their schedules on; run it with the term held and the schedules locked. */
export async function recordSlots(
  tx: Db,
  term: string | null,
  rows: readonly LedgerRow[],
  advances: readonly Advance[],
): Promise<void> {
  await tx.many(insertSlots, [
    numbers(rows.map((row) => row.schedule_id)),
    rows.map((row) => row.slot.toISOString()),
    rows.map((row) => row.due_at.toISOString()),
    rows.map((row) => row.outcome),
    rows.map((row) => row.reason),
    rows.map((row) => row.job_id),
    rows.map((row) => row.through?.toISOString() ?? null),
    rows.map((row) => row.slots),
    term,
  ]);
  await tx.many(advanceSchedules, [
    numbers(advances.map((one) => one.schedule_id)),
    advances.map((one) => one.watermark.toISOString()),
    advances.map((one) => one.held?.toISOString() ?? null),
    advances.map((one) => one.next_slot?.toISOString() ?? null),
    advances.map((one) => one.next_due?.toISOString() ?? null),
    advances.map((one) => `{${one.owed.map((slot) => slot.toISOString()).join(',')}}`),
    advances.map((one) => numbers(one.ended)),
    advances.map(({ schedule_id }) => numbers(jobsOf(rows, schedule_id))),
    advances.map((one) => numbers(one.stopping)),
    most_open,
  ]);
}

function jobsOf(rows: readonly LedgerRow[], schedule_id: number): string[] {
  return rows.flatMap((row) => (row.schedule_id === schedule_id && row.job_id !== null ? [row.job_id] : []));
}

export const insertSlots = sql<never>`
insert into errand.slot (schedule_id, slot, due_at, outcome, reason, job_id, through, slots, term)
select u.id, u.slot, u.due_at, u.outcome::errand.slot_outcome, u.reason::errand.slot_reason, u.job_id, u.through, u.slots,
  $9::bigint
from unnest($1::int[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::bigint[], $7::timestamptz[],
  $8::int[]) u(id, slot, due_at, outcome, reason, job_id, through, slots)`;

/** Of these slots of a schedule, those that the ledger knows. */
export const findSlots = sql<{ slot: Date }>`
select slot from errand.slot where schedule_id = $1 and slot = any($2::timestamptz[])`;

export const advanceSchedules = sql<never>`
update errand.schedule s set watermark = greatest(s.watermark, u.watermark), held = u.held, next_slot = u.next_slot,
  next_due = u.next_due, owed = u.owed::timestamptz[], stopping = u.stopping::bigint[], turn = turn + 1, failing_since = null,
  -- In place of what was read: a caller may have fired one by hand meanwhile.
  open_jobs = array(
    select j from (
      select j, n from unnest(s.open_jobs || u.made::bigint[]) with ordinality o(j, n)
      where j <> all(u.ended::bigint[]) order by n desc limit $10::int) o
    order by n)
from unnest($1::int[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::text[],
  $7::text[], $8::text[], $9::text[]) u(id, watermark, held, next_slot, next_due, owed, ended, made, stopping)
where s.id = u.id`;

/** The jobs of a schedule that were asked to stop need not be asked again: $1 id, $2 jobs. */
export const stopAsked = sql<never>`
update errand.schedule set stopping = array(select j from unnest(stopping) j where j <> all($2::bigint[])), turn = turn + 1
where id = $1`;

/** Looks at a schedule later, when what it is due for could not be written. */
export const postponeSchedule = sql<never>`
update errand.schedule set next_due = greatest(next_due, errand.now() + $2::int * interval '1 s'),
  failing_since = coalesce(failing_since, errand.now())
where id = $1`;

/** Looks at a schedule later, because the queue of its jobs takes none: $1 id, $2 seconds. Its slots stay due. */
export const deferSchedule = sql<never>`
update errand.schedule set next_due = greatest(next_due, errand.now() + $2::int * interval '1 s') where id = $1`;

/**
 * Age of the longest overdue schedule in s, 0 when none is, one that cannot be fired included: told by every replica, so
 * that a missing leader is noticed.
 */
export const oldestDue = sql<{ seconds: number }>`
select greatest(0, extract(epoch from errand.now() - least(
  (select min(next_due) from errand.schedule where next_due <= errand.now() and held is null),
  (select min(next_slot) from errand.schedule where failing_since is not null))))::float8 seconds`;

/** Forgets what was decided before `$1` days, `$2` rows at most; answers how many. */
export const forgetSlots = sql<{ forgotten: number }>`
with old as materialized (
  select schedule_id, slot from errand.slot where decided_at < errand.now() - $1::int * interval '1 day' limit $2::int
), gone as (
  delete from errand.slot s using old where s.schedule_id = old.schedule_id and s.slot = old.slot returning 1
)
select count(*)::int forgotten from gone`;
