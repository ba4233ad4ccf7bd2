// How slots become jobs: what is due is read without a lock, judged outside, and written in one transaction with the jobs,
// the rows of the ledger and the advance of the schedules.
// Invariants: only who holds the term writes; a schedule that is not as it was read is left for the next look; the key of
// the ledger (schedule, slot) makes a second firing of a slot impossible.
// Next room: actions/fire.ts, which judges; leader.ts, whose term fences.
import type { Definition, Pauses, SlotOutcome, SlotReason } from '../domain/schedule.ts';
import type { Db } from './db.ts';
import { hot, numbers, sql } from './sql.ts';

/** A schedule that is due, as it was read; `seen` changes with every write to it. */
export interface DueSchedule extends Pauses {
  id: number;
  name: string;
  seen: string;
  definition: Definition;
  payload_bytes: number;
  watermark: Date;
  owed: Date[];
  held: Date | null;
  open_jobs: string[];
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
select n.now, n.next_ms, s.id, s.name, s.seen, s.definition, s.payload_bytes, s.watermark, s.owed, s.held, s.open_jobs,
  s.paused_at, s.resumed_at
from (
  select errand.now() now, (
    select (extract(epoch from next_due - errand.now()) * 1000)::float8 from errand.schedule
    where next_due > errand.now() order by next_due limit 1) next_ms
) n
left join lateral (
  select id, name, xmin::text seen, definition, octet_length(payload) payload_bytes, watermark, owed, held, open_jobs,
    paused_at, resumed_at
  from errand.schedule
  where next_due <= errand.now() and next_due > errand.now() - $2::int * interval '1 s' order by next_due limit $1::int
) s on true`;

/** Locks those schedules that are still as they were seen, and no other; who waits for one waits for nobody's neighbour. */
export const lockSchedules = sql<{ id: number; payload: string }>`
select s.id, s.payload from unnest($1::int[], $2::text[]) u(id, seen) join errand.schedule s on s.id = u.id
where s.xmin::text = u.seen order by s.id for update of s skip locked`;

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
  open_jobs: readonly string[];
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
    advances.map((one) => numbers(one.open_jobs)),
  ]);
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
  next_due = u.next_due, owed = u.owed::timestamptz[], open_jobs = u.open_jobs::bigint[]
from unnest($1::int[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::text[],
  $7::text[]) u(id, watermark, held, next_slot, next_due, owed, open_jobs)
where s.id = u.id`;

/** Looks at a schedule later, when what it is due for could not be written. */
export const postponeSchedule = sql<never>`
update errand.schedule set next_due = greatest(next_due, errand.now() + $2::int * interval '1 s') where id = $1`;

/** Age of the longest overdue schedule in s, 0 when none is: told by every replica, so that a missing leader is noticed. */
export const oldestDue = sql<{ seconds: number }>`
select coalesce(extract(epoch from errand.now() - min(next_due)), 0)::float8 seconds from errand.schedule
where next_due <= errand.now() and held is null`;

/** Forgets what was decided before `$1` days, `$2` rows at most; answers how many. */
export const forgetSlots = sql<{ forgotten: number }>`
with old as materialized (
  select schedule_id, slot from errand.slot where decided_at < errand.now() - $1::int * interval '1 day' limit $2::int
), gone as (
  delete from errand.slot s using old where s.schedule_id = old.schedule_id and s.slot = old.slot returning 1
)
select count(*)::int forgotten from gone`;
