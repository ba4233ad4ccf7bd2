// Definitions of schedules and what is read of their ledger: kept, changed under the lock of their row, shown page by page.
// Invariants: every change that a caller makes raises `version`; what was due under an earlier definition is handed on in
// `owed` by the change itself, so no change makes a slot vanish.
// Next room: actions/schedules.ts, which decides; slots.ts, which fires.

import type { Definition, Pauses } from '../domain/schedule.ts';
import type { RunFacts, ScheduleFacts } from '../domain/schedule-record.ts';
import { sql } from './sql.ts';

/** A schedule under its lock, as a change finds it. */
export interface LockedSchedule extends Pauses {
  id: number;
  version: number;
  seen: string;
  definition: Definition;
  payload: string;
  watermark: Date;
  owed: Date[];
  held: Date | null;
  next_slot: Date | null;
  next_due: Date | null;
  now: Date;
}

/** Locks a schedule: $1 tenant, $2 name. */
export const lockSchedule = sql<LockedSchedule>`
select id, version, xmin::text seen, definition, payload, watermark, owed, held, next_slot, next_due, paused_at, resumed_at,
  errand.now() now
from errand.schedule where tenant = $1 and name = $2 for update`;

/** Makes a schedule whose slots count from now on; no row: there is one of that name. */
export const insertSchedule = sql<{ id: number }>`
insert into errand.schedule (tenant, name, definition, payload, watermark, next_slot, next_due)
values ($1, $2, $3::jsonb, $4, $5::timestamptz, $6::timestamptz, $7::timestamptz)
on conflict do nothing returning id`;

/** Replaces a definition: $1 id, $2 definition, $3 payload, $4 watermark, $5 owed, $6 next slot, $7 next due. */
export const replaceSchedule = sql<never>`
update errand.schedule set definition = $2::jsonb, payload = $3, watermark = $4::timestamptz, owed = $5::timestamptz[],
  next_slot = $6::timestamptz, next_due = $7::timestamptz, version = version + 1, changed_at = errand.now()
where id = $1`;

/** Pauses a schedule that is not paused. */
export const pauseSchedule = sql<{ id: number }>`
update errand.schedule set paused_at = errand.now(), resumed_at = null, pause_reason = $2, version = version + 1,
  changed_at = errand.now()
where id = $1 and (paused_at is null or resumed_at is not null) returning id`;

/** Resumes a schedule that is paused. */
export const resumeSchedule = sql<{ id: number }>`
update errand.schedule set resumed_at = errand.now(), version = version + 1, changed_at = errand.now()
where id = $1 and paused_at is not null and resumed_at is null returning id`;

export const deleteSchedule = sql<never>`delete from errand.schedule where id = $1`;

/** Notes a job that a caller fired: $1 id, $2 job, $3 most that are remembered. */
export const noteJob = sql<never>`
update errand.schedule set
  open_jobs = (open_jobs || $2::bigint)[greatest(1, cardinality(open_jobs) + 2 - $3::int):]
where id = $1`;

/** The newest slot of a schedule's ledger at a moment or after it; no row: there is none. */
export const newestSlotFrom = sql<{ slot: Date }>`
select slot from errand.slot where schedule_id = $1 and slot >= $2::timestamptz order by slot desc limit 1`;

/** The now of the database. */
export const readNow = sql<{ now: Date }>`select errand.now() now`;

/** A schedule as it is read, without what its ledger says. */
export type ReadSchedule = Omit<ScheduleFacts, 'last'>;

/** A schedule by its name: $1 tenant, $2 name. */
export const findSchedule = sql<ReadSchedule & { payload: string }>`
select id, name, version, xmin::text seen, definition, payload, paused_at, resumed_at, pause_reason, created_at, changed_at,
  held, next_slot, next_due
from errand.schedule where tenant = $1 and name = $2`;

/** The number of a schedule: $1 tenant, $2 name. */
export const scheduleId = sql<{ id: number }>`select id from errand.schedule where tenant = $1 and name = $2`;

/** Schedules in the order of their ids' list, without payloads. */
export const findSchedules = sql<ReadSchedule>`
select s.id, s.name, s.version, s.xmin::text seen, s.definition, s.paused_at, s.resumed_at, s.pause_reason, s.created_at,
  s.changed_at, s.held, s.next_slot, s.next_due
from unnest($1::int[]) with ordinality i(id, n) join errand.schedule s on s.id = i.id order by i.n`;

/** The newest row of the ledger of each schedule that has one. */
export const newestSlots = sql<RunFacts & { schedule_id: number }>`
select i.id schedule_id, l.* from unnest($1::int[]) i(id)
cross join lateral (
  select slot, due_at, decided_at, through, slots, job_id, term, outcome, reason from errand.slot
  where schedule_id = i.id order by slot desc limit 1) l`;

/** Schedules behind a name: $1 tenant, $2 name, $3 most. */
export const walkSchedules = sql<Pauses & { id: number; name: string; next_due: Date | null }>`
select id, name, paused_at, resumed_at, next_due from errand.schedule
where tenant = $1 and name > $2 order by name limit $3::int`;

/** The ledger of a schedule, the newest slot first: $1 id, slots before $2, from $3 on, $4 most. */
export const walkSlots = sql<RunFacts>`
select slot, due_at, decided_at, through, slots, job_id, term, outcome, reason from errand.slot
where schedule_id = $1 and slot < $2::timestamptz and slot >= $3::timestamptz order by slot desc limit $4::int`;
