// The schedule as a caller sees it: its record, the rows of its ledger, its tag.
// Invariants: header values of targets are never shown; the tag that a change is compared by follows from changes that
// callers make, not from firing.
// Next room: http/schedules.ts and http/schedule-control.ts, which send what is written here.
import type { JobTemplate, Pauses, SlotOutcome, SlotReason } from './schedule.ts';
import { type Definition, isPaused } from './schedule.ts';

/** What a schedule does at present. ended: there is no slot any more. */
export const scheduleStates = ['active', 'paused', 'ended'] as const;
export type ScheduleState = (typeof scheduleStates)[number];

/** A row of the ledger. */
export interface RunFacts {
  slot: Date;
  due_at: Date;
  decided_at: Date;
  through: Date | null;
  slots: number | null;
  job_id: string | null;
  term: string | null;
  outcome: SlotOutcome;
  reason: SlotReason | null;
}

/** What the database says of a schedule. */
export interface ScheduleFacts extends Pauses {
  id: number;
  name: string;
  version: number;
  /** Changes with every write. */
  seen: string;
  definition: Definition;
  pause_reason: string | null;
  created_at: Date;
  changed_at: Date;
  held: Date | null;
  next_slot: Date | null;
  next_due: Date | null;
  last: RunFacts | null;
}

/** What a schedule does at present. */
export function stateOf(facts: Pauses & Pick<ScheduleFacts, 'next_due'>): ScheduleState {
  if (isPaused(facts)) return 'paused';
  return facts.next_due === null ? 'ended' : 'active';
}

/** What a tag is made of. A schedule that was deleted and made again is another one. */
export type Tagged = Pick<ScheduleFacts, 'id' | 'version' | 'seen'>;

/** The strong, opaque ETag of a schedule; its last part changes with every write, also with those of the leader. */
export function scheduleEtag({ id, version, seen }: Tagged): string {
  return `"${id}.${version}.${seen}"`;
}

/** Tells whether one of the tags in `If-Match` names this version, however far it has run since. */
export function namesVersion(header: string, { id, version }: Tagged): boolean {
  const ours = new RegExp(`^"${id}\\.${version}\\.\\d+"$`);
  return header.trim() === '*' || header.split(',').some((tag) => ours.test(tag.trim()));
}

/** The body of `GET /v1/schedules/{name}`, but for the payload, which is JSON text already. */
export function scheduleRecord(facts: ScheduleFacts) {
  // Named one by one: jsonb keeps an order of its own.
  const { job, cron, timezone, every_seconds, jitter_seconds, starts_at, ends_at } = facts.definition;
  const { misfire, max_lateness_seconds, max_catch_up, overlap } = facts.definition;
  const paused = isPaused(facts);
  return {
    name: facts.name,
    state: stateOf(facts),
    ...{ cron, timezone, every_seconds, jitter_seconds, starts_at, ends_at },
    ...{ misfire, max_lateness_seconds, max_catch_up, overlap },
    paused_at: paused ? (facts.paused_at?.toISOString() ?? null) : null,
    pause_reason: paused ? facts.pause_reason : null,
    next_slot: facts.next_slot?.toISOString() ?? null,
    next_due_at: facts.next_due?.toISOString() ?? null,
    held_slot: facts.held?.toISOString() ?? null,
    last: facts.last === null ? null : runRecord(facts.last),
    created_at: facts.created_at.toISOString(),
    changed_at: facts.changed_at.toISOString(),
    job: shownJob(job),
  };
}

/** A row of the ledger as it is told. */
export function runRecord(run: RunFacts) {
  const isFired = run.outcome !== 'skipped';
  return {
    slot: run.slot.toISOString(),
    due_at: run.due_at.toISOString(),
    decided_at: run.decided_at.toISOString(),
    fired_at: isFired ? run.decided_at.toISOString() : null,
    lateness_ms: isFired ? Math.max(0, run.decided_at.getTime() - run.due_at.getTime()) : null,
    outcome: run.outcome,
    reason: run.reason,
    job_id: run.job_id,
    leader_term: run.term,
    through: run.through?.toISOString() ?? null,
    slots: run.slots,
  };
}

function shownJob({ target, callback, unique, ...job }: JobTemplate) {
  const { queue, type, priority, max_attempts, timeout_seconds, max_age_seconds, backoff, tags } = job;
  return {
    ...{ queue, type, priority, max_attempts, timeout_seconds, max_age_seconds, backoff, tags },
    ...(target === undefined ? {} : { target: { ...target, headers: names(target.headers) } }),
    ...(callback === undefined ? {} : { callback: { ...callback, headers: names(callback.headers) } }),
    ...(unique === undefined ? {} : { unique }),
  };
}

function names(headers: Readonly<Record<string, string>> | undefined): string[] {
  return Object.keys(headers ?? {});
}
