// Judges the slots of one schedule that are due: which are fired, which are skipped and why, which one waits.
// Invariants: every slot that is given gets exactly one verdict or is the one that waits; slots are judged in the order of
// time; nothing is asked but what is handed in.
// Next room: actions/fire.ts, which writes the verdicts down together with the jobs.
import type { Pauses, Policy, SlotOutcome, SlotReason } from './schedule.ts';

/** A slot and when it is due: itself, or a little later by its jitter. */
export interface DueSlot {
  slot: Date;
  due_at: Date;
}

/** What the ledger will say of a slot. */
export interface Verdict extends DueSlot {
  outcome: Exclude<SlotOutcome, 'manual'>;
  reason: SlotReason | null;
  /** The last slot of many that were skipped together, and how many they are; null = more than were counted. */
  through: Date | null;
  slots: number | null;
}

/** Slots that are too many for a row each: the oldest ones of a long absence. */
export interface FoldedSlots {
  from: Date;
  through: Date;
  /** Null: more than were counted. */
  count: number | null;
}

/** What stands before the judge. */
export interface Outlook extends Pauses {
  now: Date;
  /** The slots that are due, in the order of time. */
  slots: readonly DueSlot[];
  /** Slots before those, too many to be told one by one. */
  folded: FoldedSlots | null;
  /** The slot that has waited for the end of the job before it. */
  held: DueSlot | null;
  /** How many jobs of the schedule have not ended. */
  open: number;
  /** How many verdicts may be given, and how many of them may make a job; the other slots are judged another time. */
  room: { verdicts: number; jobs: number };
}

export interface Judgement {
  verdicts: Verdict[];
  /** The slot that waits now. */
  held: DueSlot | null;
  /** Whether the open jobs are to be asked to stop. */
  cancels: boolean;
}

/** What still counts as punctual, in ms. */
export const on_time_ms = 1_000;

/** Judges the slots of a schedule. */
export function judge(policy: Policy, outlook: Outlook): Judgement {
  const { now, slots } = outlook;
  const awake = slots.filter((one) => !fellInPause(one, outlook));
  const wanted = wantedOf(policy, awake, now);
  const last = awake.findLast((one) => wanted.has(one));
  const verdicts: Verdict[] = [];
  let { open, held } = outlook;
  let jobs = 0;
  const say = (one: DueSlot, outcome: Verdict['outcome'], reason: SlotReason | null) => {
    verdicts.push({ ...one, outcome, reason, through: null, slots: 1 });
    if (outcome === 'skipped') return;
    open++;
    jobs++;
  };

  if (outlook.folded !== null) verdicts.push(skippedTogether(outlook.folded, outlook));
  if (held !== null && (fellInPause(held, outlook) || policy.overlap !== 'queue_one' || open === 0)) {
    if (fellInPause(held, outlook)) say(held, 'skipped', 'paused');
    else if (isCrowdedOut(policy, open, last === undefined)) say(held, 'skipped', 'overlap');
    else say(held, 'late', 'overlap');
    held = null;
  }
  for (const one of slots) {
    if (verdicts.length >= outlook.room.verdicts || jobs >= outlook.room.jobs) break;
    if (fellInPause(one, outlook)) say(one, 'skipped', 'paused');
    else if (!wanted.has(one)) say(one, 'skipped', 'misfire');
    else if (policy.overlap === 'queue_one' && open > 0 && held === null) held = one;
    else if (isCrowdedOut(policy, open, one === last)) say(one, 'skipped', 'overlap');
    else say(one, lateness(one, now, policy), null);
  }
  const cancels = policy.overlap === 'cancel_running' && outlook.open > 0 && verdicts.some(isFired);
  return { verdicts, held, cancels };
}

/** A verdict as it is true when it is written, which may be later than it was given. */
export function toldAt(verdict: Verdict, written: Date): Verdict {
  const isPunctual = verdict.outcome === 'on_time' && lateBy(verdict, written) <= on_time_ms;
  return verdict.outcome !== 'on_time' || isPunctual ? verdict : { ...verdict, outcome: 'late' };
}

/** How late a slot is at a moment, in ms. */
export function lateBy({ due_at }: Pick<DueSlot, 'due_at'>, moment: Date): number {
  return moment.getTime() - due_at.getTime();
}

/** Whether a verdict makes a job. */
export function isFired({ outcome }: Verdict): boolean {
  return outcome !== 'skipped';
}

/** While a schedule is paused nothing is fired, not even what was due before; afterwards only slots of the pause are out. */
function fellInPause({ due_at }: Pick<DueSlot, 'due_at'>, { paused_at, resumed_at }: Pauses): boolean {
  return paused_at !== null && (resumed_at === null || (due_at >= paused_at && due_at < resumed_at));
}

/** The slots that the misfire policy lets through. */
function wantedOf(policy: Policy, slots: readonly DueSlot[], now: Date): ReadonlySet<DueSlot> {
  const missed = slots.filter((one) => isMissed(one, now, policy));
  const most = {
    fire_latest: missed.length === slots.length ? 1 : 0,
    fire_all: policy.max_catch_up,
    skip: 0,
  };
  const givenUp = new Set(missed.slice(0, Math.max(0, missed.length - most[policy.misfire])));
  return new Set(slots.filter((one) => !givenUp.has(one)));
}

function skippedTogether({ from, through, count }: FoldedSlots, pauses: Pauses): Verdict {
  const paused = fellInPause({ due_at: from }, pauses) && fellInPause({ due_at: through }, pauses);
  const reason = paused ? 'paused' : 'misfire';
  return { slot: from, due_at: from, outcome: 'skipped', reason, through, slots: count };
}

function isMissed(one: DueSlot, now: Date, { max_lateness_seconds }: Policy): boolean {
  return lateBy(one, now) > max_lateness_seconds * 1_000;
}

/** Of several slots that would stop each other's jobs only the last is worth starting. */
function isCrowdedOut({ overlap }: Policy, open: number, isLast: boolean): boolean {
  if (overlap === 'cancel_running') return !isLast;
  return overlap !== 'allow' && open > 0;
}

function lateness(one: DueSlot, now: Date, policy: Policy): Exclude<SlotOutcome, 'manual' | 'skipped'> {
  if (isMissed(one, now, policy)) return 'caught_up';
  return lateBy(one, now) <= on_time_ms ? 'on_time' : 'late';
}
