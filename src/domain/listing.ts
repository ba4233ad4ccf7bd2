// What a list of jobs is asked for, and in which order it is answered.
// Invariant: the order follows from the question alone, so every page of a walk has the same one.
// Next room: cursor.ts, which binds a page to its question; store/lists.ts, which walks.
import { isTerminal, type JobState } from './job.ts';
import type { ErrorClass } from './outcome.ts';

/** The question: every member that is there must fit. Times are RFC 3339 text. */
export interface Filter {
  readonly queue?: string | undefined;
  readonly type?: string | undefined;
  readonly state?: JobState | undefined;
  readonly tag?: string | undefined;
  readonly error_class?: ErrorClass | undefined;
  /** At this moment or later. */
  readonly created_after?: string | undefined;
  /** Before this moment. */
  readonly created_before?: string | undefined;
}

/**
 * newest: by id, the highest first. turn: as jobs will run, by priority, place and id. lease: by the lease a job is held
 * under, the oldest first. due: by the moment a job waits for.
 */
export type Order = 'newest' | 'turn' | 'lease' | 'due';

/** The order of the answer (docs/contract.md, Lists). */
export function orderOf({ state, tag }: Filter): Order {
  if (tag !== undefined || state === undefined || state === 'blocked' || isTerminal(state)) return 'newest';
  if (state === 'running') return 'lease';
  return state === 'queued' ? 'turn' : 'due';
}

/** The question as one text: the same for the same question, another for any other. */
export function questionOf(tenant: number, filter: Filter): string {
  const { queue, type, state, tag, error_class, created_after, created_before } = filter;
  const asked = [queue, type, state, tag, error_class, created_after, created_before];
  return JSON.stringify([tenant, orderOf(filter), ...asked.map((one) => one ?? null)]);
}
