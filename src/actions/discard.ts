// Discards many dead letters as an operation: they leave the list at once, and can be put back until the time for a change of
// mind is over.
// Invariant: what is put back is what this operation took, and nothing else.
// Next room: hold.ts, the same for jobs that wait; store/letters.ts.
import type { LetterFilter } from '../domain/dead-letter.ts';
import type { EventBus } from '../events.ts';
import { putBack, setAside, type WalkedLetter } from '../store/letters.ts';
import { insertItems, returnItems } from '../store/operations.ts';
import { afterMark } from './hold.ts';
import { walkOn } from './redrive-many.ts';
import type { TakeStep } from './stepping.ts';

/** What is kept of the wish. */
export interface DiscardParams {
  filter: LetterFilter;
  limit: number | null;
  undo_seconds: number;
}

const most_at_once = 500;
const most_looked = 1_000;

export function discardStep({ events }: { events: EventBus }): TakeStep {
  const tell = (letters: readonly { lane: number }[], isBack: boolean) => () => {
    for (const { lane } of letters) {
      const standing = { lane, state: 'dead' } as const;
      events.emit('jobs.moved', { jobs: 1, from: isBack ? null : standing, to: isBack ? standing : null });
    }
  };

  return async (tx, operation) => {
    const { id, phase, matched } = operation;
    const { filter, limit, undo_seconds } = operation.params as DiscardParams;
    if (phase === 'hold' || phase === 'sweep') return { state: 'done' };
    if (phase === 'undo' || phase === 'withdraw') {
      const back = await tx.many(putBack, [id, most_at_once]);
      if (back.length === 0) return { state: phase === 'undo' ? 'undone' : 'cancelled' };
      await tx.many(returnItems, [id, back.map(({ job_id }) => job_id)]);
      return { counts: { put_back: back.length }, after: tell(back, true) };
    }
    const { at = null } = operation.cursor as { at?: WalkedLetter['key'] | null };
    const want = Math.min(most_at_once, (limit ?? Number.POSITIVE_INFINITY) - matched);
    const walked = await walkOn(tx, filter, at, operation.began, want);
    const ids = walked.flatMap(({ job_id }) => job_id ?? []);
    const taken = await tx.many(setAside, [ids, id]);
    const jobs = taken.map(({ job_id }) => job_id);
    await tx.many(insertItems, [id, jobs, jobs.map(() => 'discarded'), jobs.map(() => null)]);
    const met = { matched: jobs.length, counts: { discarded: jobs.length }, after: tell(taken, false) };
    const last = walked.at(-1);
    const isEnd = walked.length < want && last?.looked !== most_looked;
    if (isEnd || matched + jobs.length >= (limit ?? Number.POSITIVE_INFINITY))
      return { ...met, ...afterMark(undo_seconds) };
    return { ...met, cursor: { at: last?.key ?? at } };
  };
}
