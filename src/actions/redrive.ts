// Redrives dead letters: for each a new job with every option of it, made once however often it is asked for.
// Invariants: of a thousand that are redriven together each has an answer of its own; what is told of them is told after the
// commit.
// Next room: store/repeats.ts.
import { callbackType, pushRoute } from '../domain/options.ts';
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

/** What became of one letter: a job was made; one had been made before; or it is no letter in the list. */
export type Redriven = { job_id: string } & (
  | { kind: 'made' | 'repeated'; id: string }
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
}

export function redriving(options: RedriveOptions): Redrives {
  const { lanes } = options;

  /** Where the repeats are to stand: in the lane of the same route in the other queue. */
  async function asksOf(tx: Db, ids: readonly string[], queue: string | undefined): Promise<RepeatAsk[]> {
    if (queue === undefined) return ids.map((job_id) => ({ job_id, lane: null, callback_lane: null }));
    const found = await tx.many(findRepeatable, [ids]);
    return Promise.all(
      found.map(async ({ job_id, lane, callback }) => ({
        job_id,
        lane: (await lanes.named(queue, (await lanes.get(lane)).route)).id,
        callback_lane: callback ? (await lanes.named(queue, pushRoute(callbackType))).id : null,
      })),
    );
  }

  return {
    async within(tx, ids, { queue, run_at, max_attempts }) {
      const asks = await asksOf(tx, ids, queue);
      const wish = { run_at: run_at ?? null, max_attempts: max_attempts ?? null };
      const made = await repeatJobs(tx, asks, 'undecided', wish);
      const madeOf = new Map(made.map((one) => [one.job_id, one.id]));
      const others = ids.filter((id) => !madeOf.has(id));
      const before = others.length === 0 ? [] : await tx.many(findSuccessors, [others]);
      const beforeOf = new Map(before.map((one) => [one.job_id, one.id]));
      return {
        redriven: ids.map((job_id) => answerOf(job_id, madeOf.get(job_id), beforeOf.get(job_id))),
        tell: () => tellOfRepeats(made, options),
      };
    },
  };
}

function answerOf(job_id: string, made: string | undefined, before: string | undefined): Redriven {
  if (made !== undefined) return { job_id, kind: 'made', id: made };
  return before === undefined ? { job_id, kind: 'no_letter' } : { job_id, kind: 'repeated', id: before };
}
