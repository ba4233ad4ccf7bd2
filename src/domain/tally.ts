// What is counted of a lane: what happened in it, and by how much its depth changed.
// Invariant: the names are those of the columns of errand.tally and errand.depth.
// Next room: actions/tally.ts.
import type { Sparse } from './histogram.ts';
import type { JobState } from './job.ts';

/** What can happen: jobs arrive and start; a start ends in one of the other ways. */
export const happenings = [
  'arrived',
  'started',
  'succeeded',
  'died',
  'cancelled',
  'expired',
  'retried',
  'lost',
  'released',
] as const;

/** The states of which the depth is kept; `dead` are dead letters that nobody has dealt with. */
export const keptStates = ['queued', 'scheduled', 'retrying', 'running', 'blocked', 'dead'] as const;

export type Happening = (typeof happenings)[number];
export type KeptState = (typeof keptStates)[number];

/** How many jobs stand where. */
export type Depth = Record<KeptState, number>;

/** What happened, how often. */
export type Counts = Record<Happening, number>;

/** What is stored of one lane and stretch of time. */
export interface TallyRow extends Counts, Depth {
  lane: number;
  /** RFC 3339. */
  slot: string;
  wait: Sparse;
  run: Sparse;
  failed: Sparse;
}

export function noCounts(): Counts & Depth {
  return {
    arrived: 0,
    started: 0,
    succeeded: 0,
    died: 0,
    cancelled: 0,
    expired: 0,
    retried: 0,
    lost: 0,
    released: 0,
    queued: 0,
    scheduled: 0,
    retrying: 0,
    running: 0,
    blocked: 0,
    dead: 0,
  };
}

const kept: ReadonlySet<string> = new Set(keptStates);

/** Whether the depth of a state is kept: of the terminal ones only that of the dead. */
export function isKept(state: JobState): state is KeptState {
  return kept.has(state);
}

/** Under which name the outcome of a start is counted. */
export const happeningOf = {
  succeeded: 'succeeded',
  dead: 'died',
  cancelled: 'cancelled',
  expired: 'expired',
  retry: 'retried',
  lost: 'lost',
  released: 'released',
  snoozed: 'released',
} as const;
