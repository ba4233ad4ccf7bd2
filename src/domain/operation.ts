// Operations: what an operator does to many jobs at once. Which kinds there are, by which phases they go, how fast they may
// go, and how they are shown.
// Invariant: a phase leads only to those that `phases` says; what can be undone is marked first and ended later.
// Next room: actions/operations.ts, which begins and steers them; actions/stepping.ts, which takes their steps.

/** What an operation does. */
export const operationKinds = [
  'dead_letters.redrive',
  'queue.reroute',
  'queue.purge',
  'queue.delete_force',
  'jobs.cancel_bulk',
  'dead_letters.discard',
] as const;
export type OperationKind = (typeof operationKinds)[number];

export const operationStates = ['running', 'paused', 'cancelled', 'done', 'failed', 'undone'] as const;
export type OperationState = (typeof operationStates)[number];

/**
 * What the next step does. `canary`, `work`: what was asked for. `mark`: it sets jobs aside. `hold`: they can be put back
 * until the undo window is over. `sweep`: they are ended. `undo`, `withdraw`: those set aside are put back.
 */
export type Phase = 'canary' | 'work' | 'mark' | 'hold' | 'sweep' | 'undo' | 'withdraw';

/** States of jobs that wait, in which they can be moved. */
export const waitingStates = ['queued', 'scheduled', 'retrying', 'blocked'] as const;
export type WaitingState = (typeof waitingStates)[number];

/** Which jobs of a queue: every member that is there must fit, a list by one of its values. Times are RFC 3339 text. */
export interface JobFilter {
  readonly types?: readonly string[] | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly priorities?: readonly number[] | undefined;
  readonly created_after?: string | undefined;
  readonly created_before?: string | undefined;
}

/**
 * How many jobs something concerns, that wait or are dead; `at_least`: counting stopped there. `running`: how many run and are
 * to be asked to stop, absent where none is.
 */
export interface Extent {
  readonly jobs: number;
  readonly at_least: boolean;
  readonly oldest: string | null;
  readonly running?: number;
}

/** The same where no more than so many are to be met. */
export function limitedTo(extent: Extent, limit: number | null): Extent {
  if (limit === null) return extent;
  const { jobs, running } = extent;
  const met = jobs < limit ? extent : { ...extent, jobs: limit, at_least: false };
  return running === undefined ? met : { ...met, running: Math.min(running, limit - met.jobs) };
}

/** An operation as it is kept and shown. */
export interface OperationFacts {
  id: string;
  kind: OperationKind;
  target: string;
  params: object;
  state: OperationState;
  phase: Phase;
  reason: string | null;
  actor: string;
  pause_reason: string | null;
  error: string | null;
  expected: Extent;
  matched: number;
  counts: Record<string, number>;
  undo_until: Date | null;
  created_at: Date;
  started_at: Date | null;
  finished_at: Date | null;
}

/** An operation as its caller sees it. */
export function operationRecord(facts: OperationFacts): object {
  const { kind, target, state, phase, expected, matched, finished_at } = facts;
  const isNone = matched === 0 && (isNothing(expected) || state === 'done');
  return {
    ...facts,
    phase: finished_at === null ? phase : null,
    note: isNone ? noneFits(kind, target) : null,
  };
}

/** Whether something surely concerns no job at all. */
export function isNothing({ jobs, at_least, running = 0 }: Extent): boolean {
  return jobs === 0 && !at_least && running === 0;
}

/** What is said where nothing fits, so that it is not taken for success. */
export function noneFits(kind: OperationKind, target: string): string {
  const isLetters = kind === 'dead_letters.redrive' || kind === 'dead_letters.discard';
  const what = isLetters ? 'dead letter' : 'job';
  return target === '*' ? `no ${what} fits` : `no ${what} of queue "${target}" fits`;
}

/** How many items a step may take, so that a limit is kept in small bites. */
export function biteOf(rate_per_second: number | null, most: number): number {
  return rate_per_second === null ? most : Math.min(most, Math.max(1, Math.floor(rate_per_second / 10)));
}

/** A step that comes late is made up for, but no more than this: a long stop is no debt. */
const most_behind_ms = 1_000;

/**
 * When the step after one of `items` is due, `late_ms` being how late that one was: counted from when it was due, so that the
 * rate is kept on average and never exceeded. In ms from now.
 */
export function pauseAfter(rate_per_second: number | null, items: number, late_ms: number): number {
  if (rate_per_second === null) return 0;
  return Math.max(0, (items * 1_000) / rate_per_second - Math.min(Math.max(0, late_ms), most_behind_ms));
}

/** Whether so much has changed that a decision made on it has to be made again: more than a tenth. */
export function hasDrifted(decided: Extent, present: Extent): boolean {
  return Math.abs(present.jobs - decided.jobs) > decided.jobs / 10;
}
