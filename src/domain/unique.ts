// Uniqueness of jobs: when a job holds its key, and what becomes of one that meets a holder.
// Invariants: the holder's own words decide how long it holds; whoever meets a holder is always told which job that is; no
// rule drops a payload without saying so to the one who sent it.
// Next room: actions/unique.ts, which asks under the lock of the key.
import { z } from 'zod';
import { isTerminal, type JobState } from './job.ts';

/** States in which a job may hold its key. */
export const holdingStates = ['scheduled', 'queued', 'running', 'retrying'] as const;

/** What becomes of a submit whose key is held. */
export const onConflicts = ['return', 'reject', 'replace', 'rerun'] as const;

export type OnConflict = (typeof onConflicts)[number];

const longest_window_seconds = 604_800;

/** `unique` of a submit. */
export const Unique = z
  .strictObject({
    key: z
      .string()
      .min(1)
      .max(255)
      .describe('Of all jobs with this key, whatever their queue and type, one holds it.'),
    while: z
      .array(z.enum(holdingStates))
      .min(1)
      .max(holdingStates.length)
      .default([...holdingStates])
      .describe('The job holds its key in these states; `queued` must be one of them.'),
    window_seconds: z
      .int()
      .min(1)
      .max(longest_window_seconds)
      .optional()
      .describe('It holds its key so long after it was made, also once it has succeeded.'),
    on_conflict: z
      .enum(onConflicts)
      .default('return')
      .describe(
        'When the key is held: answer with the holder; refuse; replace a holder that does not run; or that, and run once ' +
          'more after one that runs.',
      ),
  })
  .refine((unique) => unique.while.includes('queued'), {
    path: ['while'],
    message: 'must contain queued, or jobs of one key would wait side by side; add it',
  })
  .refine((unique) => unique.on_conflict !== 'rerun' || unique.window_seconds === undefined, {
    path: ['window_seconds'],
    message:
      'does not go together with on_conflict rerun, which keeps every newest payload; leave one of them out',
  })
  .meta({ id: 'Unique', description: 'At most one job of a key at a time.' });

export type Unique = z.output<typeof Unique>;

/** The job that stands in the row of a key. */
export interface Holder {
  readonly job_id: string;
  /** Null: there is no such job, or not any more. */
  readonly state: JobState | null;
  readonly holding: readonly string[] | null;
  readonly in_window: boolean;
  /** It waits, and an operation has set it aside to be cancelled. */
  readonly set_aside: boolean;
}

/** Jobs that wait for a holder: the first of all, and the one that is to run once more. */
export interface Waiters {
  readonly first_waiting: string | null;
  readonly rerun: string | null;
}

/** Whether a job holds its key. A window counts for jobs that are open or succeeded: a failure leaves the key free. */
export function holds({ state, holding, in_window }: Holder): boolean {
  if (state === null || holding === null) return false;
  return holding.includes(state) || (in_window && (state === 'succeeded' || !isTerminal(state)));
}

/** Who goes on now; null: nobody. One that is to run once more waits for the end of the holder, and for no window. */
export function goesOn({ first_waiting, rerun, ...holder }: Holder & Waiters): string | null {
  if (!holds(holder)) return first_waiting;
  return holder.state !== null && isTerminal(holder.state) ? rerun : null;
}

/**
 * What becomes of a job that comes to a key. `take`: it is the next holder. `replace`: it takes the place of the holder,
 * which has to be taken out first. `wait`: it runs after the holder. `return`, `refuse`: it is not stored.
 */
export type Fate = 'take' | 'replace' | 'wait' | 'return' | 'refuse';

export function fateOf(wish: OnConflict, holder: Holder): Fate {
  if (!holds(holder)) return 'take';
  // Whoever relied on one that is about to be cancelled would get nothing.
  if (holder.set_aside) return 'replace';
  if (wish === 'return') return 'return';
  if (wish === 'reject') return 'refuse';
  switch (holder.state) {
    case 'scheduled':
    case 'queued':
    case 'retrying':
      return 'replace';
    case 'running':
      return wish === 'rerun' ? 'wait' : 'refuse';
    default:
      // It has succeeded and its window is not over: what has been done cannot be replaced, but done again.
      return wish === 'rerun' ? 'take' : 'refuse';
  }
}
