// Redrives dead letters: for each a new job with every option of it, made once however often it is asked for.
// Invariants: of a thousand that are redriven together each has an answer of its own; a queue that takes no job takes no
// repeat; what is told of them is told after the commit.
// Next room: store/repeats.ts.
import { callbackType, pushRoute } from '../domain/options.ts';
import type { Problem } from '../domain/problem.ts';
import type { EventBus } from '../events.ts';
import type { Db } from '../store/db.ts';
import type { Lanes } from '../store/lanes.ts';
import { findRepeatable, findSuccessors, type RepeatAsk, repeatJobs } from '../store/repeats.ts';
import { tellOfRepeats } from './news.ts';
import type { Ready } from './ready.ts';

/** What a redriven job has that its letter had not; absent = as it was. */
export interface Redriving {
  queue?: string | undefined;
  /** RFC 3339; absent = at once. */
  run_at?: string | undefined;
  max_attempts?: number | undefined;
}

/**
 * What became of one letter: a job was made; one had been made before; its queue takes none now, and it stays as it is; or it
 * is no letter in the list.
 */
export type Redriven = { job_id: string } & (
  | { kind: 'made' | 'repeated'; id: string }
  | { kind: 'closed'; refusal: Problem }
  | { kind: 'no_letter' }
);

export interface Redrives {
  /**
   * Redrives letters in a transaction of the caller's, who calls `tell` after its commit. Answers in the order of the ids;
   * asked for again, it doubles nothing.
   */
  within(
    tx: Db,
    ids: readonly string[],
    wish: Redriving,
  ): Promise<{ redriven: Redriven[]; tell: () => Promise<void> }>;
}

export interface RedriveOptions {
  lanes: Lanes;
  ready: Ready;
  events: EventBus;
  /** A job falls due in `ms`. */
  onLater: (ms: number) => void;
  /** Why a queue takes no job; null: it does. */
  closed: (queue: string, pointer: string | null) => Problem | null;
}

export function redriving(options: RedriveOptions): Redrives {
  const { lanes, closed } = options;

  /** Where the repeats are to stand: in the lane of the same route in the other queue; and which may not come there. */
  async function asksOf(tx: Db, ids: readonly string[], queue: string | undefined) {
    const asks: RepeatAsk[] = [];
    const refusals = new Map<string, Problem>();
    for (const { job_id, lane, callback } of await tx.many(findRepeatable, [ids])) {
      const was = await lanes.get(lane);
      const refusal = closed(queue ?? was.queue, queue === undefined ? null : '#/queue');
      if (refusal !== null) refusals.set(job_id, refusal);
      else if (queue === undefined) asks.push({ job_id, lane: null, callback_lane: null });
      else {
        const callback_lane = callback ? (await lanes.named(queue, pushRoute(callbackType))).id : null;
        asks.push({ job_id, lane: (await lanes.named(queue, was.route)).id, callback_lane });
      }
    }
    return { asks, refusals };
  }

  return {
    async within(tx, ids, { queue, run_at, max_attempts }) {
      const { asks, refusals } = await asksOf(tx, ids, queue);
      const wish = { run_at: run_at ?? null, max_attempts: max_attempts ?? null };
      const made = await repeatJobs(tx, asks, 'undecided', wish);
      const madeOf = new Map(made.map((one) => [one.job_id, one.id]));
      const others = ids.filter((id) => !madeOf.has(id));
      const before = others.length === 0 ? [] : await tx.many(findSuccessors, [others]);
      const beforeOf = new Map(before.map((one) => [one.job_id, one.id]));
      return {
        redriven: ids.map((id) => answerOf(id, madeOf.get(id), beforeOf.get(id), refusals.get(id))),
        tell: () => tellOfRepeats(made, options),
      };
    },
  };
}

function answerOf(
  job_id: string,
  made: string | undefined,
  before: string | undefined,
  refusal: Problem | undefined,
): Redriven {
  if (made !== undefined) return { job_id, kind: 'made', id: made };
  if (before !== undefined) return { job_id, kind: 'repeated', id: before };
  return refusal === undefined ? { job_id, kind: 'no_letter' } : { job_id, kind: 'closed', refusal };
}
