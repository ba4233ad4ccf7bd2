// From a schedule that is due to what is to be written of it: its outstanding slots, their verdicts, the jobs of those that
// are fired, and where the schedule stands then. Nothing is written here.
// Invariants: what is written at once is bounded in rows and bytes, and the rest is judged again at the next look; a slot
// that is neither decided nor held stays before the watermark, or owed.
// Next room: write-slots.ts, which writes; domain/cadence.ts, which knows the slots; domain/firing.ts, which judges them.
import { cadenceOf, outstanding } from '../domain/cadence.ts';
import { type DueSlot, isFired, judge, type Verdict } from '../domain/firing.ts';
import { dueOf } from '../domain/jitter.ts';
import type { Advance, DueSchedule } from '../store/slots.ts';
import type { Asking } from './submit.ts';
import { unhurried } from './unhurried.ts';

/** Rows written at once, and those of one schedule: after a long absence everybody gets a turn. */
const most_rows = 500;
const most_own_rows = 100;
/** Payloads written at once, in bytes. */
const most_bytes = 8 * 1024 * 1024;
/** Slots of one schedule that get a row each; of more, the older share one. */
const most_slots = 1_000;
/** How soon a schedule is looked at whose slot waits for the end of a job, or whose jobs were to be asked to stop. */
const again_ms = 1_000;

/** What is to be written of one schedule. */
export interface Case {
  now: Date;
  row: DueSchedule;
  verdicts: readonly Verdict[];
  /** The jobs of those verdicts that are fired, without their payload. */
  submissions: readonly Asking[];
  advance: Advance;
}

/** Computes the slots of a schedule that are due and has them judged; `ended`: of its open jobs, those that have ended. */
export async function considered(row: DueSchedule, now: Date, ended: ReadonlySet<string>): Promise<Case> {
  const { definition, name } = row;
  const cadence = cadenceOf(definition, name);
  const { slots, folded } = await unhurried(outstanding(cadence, row.watermark, now, most_slots));
  const due = (slot: Date): DueSlot => ({ slot, due_at: dueOf(slot, definition.jitter_seconds, name) });
  const over = row.open_jobs.filter((id) => ended.has(id));
  const open_jobs = row.open_jobs.filter((id) => !ended.has(id));
  const judgement = judge(definition, {
    now,
    slots: [...ripe(row.owed.map(due), now), ...ripe(slots.map(due), now)],
    folded,
    held: row.held && due(row.held),
    open: open_jobs.length,
    paused_at: row.paused_at,
    resumed_at: row.resumed_at,
    room: {
      verdicts: most_own_rows,
      jobs: Math.max(1, Math.floor(most_bytes / Math.max(1, row.payload_bytes))),
    },
  });
  const { verdicts } = judgement;

  const decided = new Set([...verdicts, ...(judgement.held === null ? [] : [judgement.held])].map(instantOf));
  const owed = row.owed.filter((slot) => !decided.has(slot.getTime()));
  const undecided = slots.find((slot) => !decided.has(slot.getTime()));
  // A clock may have gone back behind what is decided.
  const next_slot = undecided ?? cadence.next(new Date(Math.max(now.getTime(), row.watermark.getTime())));
  const stopping = judgement.cancels ? open_jobs : row.stopping.filter((id) => !ended.has(id));
  const looks = [owed[0], next_slot].flatMap((slot) => (slot ? [due(slot).due_at.getTime()] : []));
  if (judgement.held !== null || stopping.length > 0) looks.push(now.getTime() + again_ms);
  return {
    now,
    row,
    verdicts,
    submissions: submissionsOf(row, verdicts),
    advance: {
      schedule_id: row.id,
      watermark: undecided === undefined ? now : new Date(undecided.getTime() - 1),
      owed,
      held: judgement.held?.slot ?? null,
      ended: over,
      stopping,
      next_slot,
      next_due: looks.length === 0 ? null : new Date(Math.max(now.getTime(), Math.min(...looks))),
    },
  };
}

/** Whether one transaction may write a case besides these. */
export function fits(part: readonly Case[], one: Case): boolean {
  const all = [...part, one];
  const rows = all.reduce((sum, { verdicts }) => sum + verdicts.length, 0);
  const bytes = all.reduce((sum, { row, submissions }) => sum + submissions.length * row.payload_bytes, 0);
  return part.length === 0 || (rows <= most_rows && bytes <= most_bytes);
}

/** What is left of a case when slots are taken out that are decided already; null when none of it is. */
export function withoutDecided(one: Case, decided: readonly Date[]): Case | null {
  if (decided.length === 0) return null;
  const known = new Set(decided.map((slot) => slot.getTime()));
  const verdicts = one.verdicts.filter((verdict) => !known.has(instantOf(verdict)));
  return { ...one, verdicts, submissions: submissionsOf(one.row, verdicts) };
}

/** Slots are judged in their order, so one whose jitter has not passed keeps those behind it waiting. */
function ripe(slots: readonly DueSlot[], now: Date): readonly DueSlot[] {
  const unripe = slots.findIndex(({ due_at }) => due_at > now);
  return unripe < 0 ? slots : slots.slice(0, unripe);
}

const instantOf = ({ slot }: DueSlot) => slot.getTime();

/** The jobs of those slots that are fired. Their payload is read where the schedule is locked. */
function submissionsOf(row: DueSchedule, verdicts: readonly Verdict[]): Asking[] {
  return verdicts.filter(isFired).map(({ slot }) => slotJob(row, slot));
}

/** The job of a slot, without its payload. */
export function slotJob(
  { name, definition: { job } }: Pick<DueSchedule, 'name' | 'definition'>,
  slot: Date,
): Asking {
  const { queue, type, priority, max_attempts, timeout_seconds, backoff, tags, target, callback, unique } =
    job;
  return {
    queue,
    type,
    priority,
    max_attempts: max_attempts ?? null,
    timeout_seconds: timeout_seconds ?? null,
    max_age_seconds: job.max_age_seconds ?? null,
    payload: '',
    run_at: null,
    delay_ms: null,
    expires_at: null,
    backoff: backoff === undefined ? null : JSON.stringify(backoff),
    tags: tags === undefined || tags.length === 0 ? null : tags,
    options: {
      schedule: { name, slot: slot.toISOString() },
      ...(target === undefined ? {} : { target }),
      ...(callback === undefined ? {} : { callback }),
      ...(unique === undefined ? {} : { unique }),
    },
    idempotency: null,
  };
}
