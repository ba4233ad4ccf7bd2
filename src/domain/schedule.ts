// What a schedule is: when its slots are, what becomes of one that could not be fired in time or while its last job still
// runs, and the job that each of them makes.
// Invariant: a definition is kept as its caller gave it, with every default filled in, so what is shown is what is done.
// Next room: cadence.ts, which knows the slots; firing.ts, which judges them.
import type { BackoffPolicy } from './backoff.ts';
import type { TerminalState } from './job.ts';
import type { Target } from './options.ts';
import type { Unique } from './unique.ts';

/** What becomes of slots that are later than `max_lateness_seconds`. */
export const misfires = ['fire_latest', 'fire_all', 'skip'] as const;
/** What becomes of a slot while a job of an earlier one has not ended. */
export const overlaps = ['allow', 'skip', 'queue_one', 'cancel_running'] as const;
export const slotOutcomes = ['on_time', 'late', 'caught_up', 'skipped', 'manual'] as const;
export const slotReasons = ['misfire', 'overlap', 'paused'] as const;

export type Misfire = (typeof misfires)[number];
export type Overlap = (typeof overlaps)[number];
export type SlotOutcome = (typeof slotOutcomes)[number];
export type SlotReason = (typeof slotReasons)[number];

/** When the slots of a schedule are: `cron` in a time zone, or `every_seconds`; between two moments, both included. */
export interface CadenceSpec {
  cron: string | null;
  timezone: string;
  every_seconds: number | null;
  starts_at: string | null;
  ends_at: string | null;
}

/** How slots that are late, or come too soon, are treated. */
export interface Policy {
  misfire: Misfire;
  max_lateness_seconds: number;
  max_catch_up: number;
  overlap: Overlap;
}

/** The job that a slot makes, without its payload, which is kept as bytes. */
export interface JobTemplate {
  queue: string;
  type: string;
  priority: number;
  /** Absent, as the three after it: what is set of its type or queue when a slot is fired. */
  max_attempts?: number | undefined;
  timeout_seconds?: number | undefined;
  max_age_seconds?: number | undefined;
  backoff?: BackoffPolicy | undefined;
  tags?: readonly string[] | undefined;
  target?: Target | undefined;
  callback?:
    | {
        url: string;
        events: readonly TerminalState[];
        headers?: Readonly<Record<string, string>> | undefined;
      }
    | undefined;
  unique?: Unique | undefined;
}

/** A schedule as its caller defines it. */
export interface Definition extends CadenceSpec, Policy {
  jitter_seconds: number;
  job: JobTemplate;
}

/** Whether a schedule is paused: the last pause is kept, so that slots of its time are known however late they are judged. */
export function isPaused({ paused_at, resumed_at }: Pauses): boolean {
  return paused_at !== null && resumed_at === null;
}

/** The last pause of a schedule. */
export interface Pauses {
  paused_at: Date | null;
  resumed_at: Date | null;
}
