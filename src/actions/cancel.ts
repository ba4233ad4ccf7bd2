// Stops a job: one that has not started is taken out of where it waits and is final at once; one that runs is asked.
// Invariant: exactly one branch is ever true. A job may move between the look and the lock, so "nothing taken" counts
// only when two tries in a row find it in the same place and it does not wait there.
// Next room: store/jobs.ts `takeOut`.
import type { JobState } from '../domain/job.ts';
import type { EventBus } from '../events.ts';
import { insertCallbacks } from '../store/callbacks.ts';
import type { Pool } from '../store/db.ts';
import { findJobs, requestCancel, takeOut } from '../store/jobs.ts';
import type { Lanes } from '../store/lanes.ts';
import { tellOfCallbacks } from './news.ts';
import type { Ready } from './ready.ts';

/** What the attempt to stop a job came to. */
export type CancelAnswer =
  | { kind: 'taken' }
  | { kind: 'requested' }
  | { kind: 'ended'; state: JobState }
  | { kind: 'started'; state: JobState }
  | { kind: 'absent' };

export interface Cancel {
  /** Cancels a job: `taken` is final, `requested` asks the one who runs it. */
  cancel(id: string): Promise<CancelAnswer>;
  /** Cancels a job only if it has never started: the end of a hard wait. */
  cancelUnstarted(id: string): Promise<CancelAnswer>;
  /** Ends a job that waits past its expires_at; a job that runs is left alone. */
  expire(id: string): Promise<CancelAnswer>;
}

const tries = 20;
const anyEpoch = 2_147_483_647;

export function cancelling(options: {
  db: Pool;
  lanes: Lanes;
  events: EventBus;
  ready: Ready;
  onEnded: (ids: string[]) => void;
  /** A job that runs, maybe in this process, was asked to stop. */
  onRequested: (id: string) => void;
}): Cancel {
  const { db, lanes, events, ready, onEnded, onRequested } = options;

  async function take(id: string, status: 'cancelled' | 'expired', lastEpoch: number): Promise<CancelAnswer> {
    const why = status === 'expired' ? 'expires_at passed before the next start' : null;
    let before: string | null | undefined;
    for (let n = 0; n < tries; n++) {
      const { taken, blk, lane, type, state } = await takeAndTell([id, status, lastEpoch, why]);
      if (taken > 0) {
        onEnded([id]);
        const stood = { lane: lane as number, from: state as JobState, to: status };
        const { queue, route } = await lanes.get(stood.lane);
        const end = { class: null, run_ms: null, epoch: 0, attempt: 0, ...stood };
        events.emit('job.ended', { job_id: id, queue, type: type ?? route, outcome: status, ...end });
        return { kind: 'taken' };
      }
      if (blk === null) return { kind: 'absent' };
      if (blk !== before) {
        before = blk;
        continue;
      }
      const facts = await db.maybeOne(findJobs, [[id]]);
      if (facts === undefined) return { kind: 'absent' };
      if (facts.finished_at !== null) return { kind: 'ended', state: facts.state };
      // What waits for a moment stands in no block: its place is the same after each change of that moment.
      if (facts.state === 'running' || facts.epoch >= lastEpoch)
        return { kind: 'started', state: facts.state };
    }
    return { kind: 'started', state: 'running' };
  }

  /** Most jobs have no callback: only one that has is taken out again, in one transaction with the job that tells. */
  async function takeAndTell(params: [id: string, status: string, lastEpoch: number, why: string | null]) {
    const plain = await db.one(takeOut, [...params, false]);
    if (!plain.callback) return plain;
    const { row, told } = await db.transaction(async (tx) => {
      const row = await tx.one(takeOut, [...params, true]);
      return { row, told: row.taken > 0 ? await tx.many(insertCallbacks, [[params[0]]]) : [] };
    });
    tellOfCallbacks(told, { ready, events });
    return row;
  }

  return {
    async cancel(id) {
      for (let n = 0; n < tries; n++) {
        const answer = await take(id, 'cancelled', anyEpoch);
        if (answer.kind !== 'started') return answer;
        const { blk } = await db.one(takeOut, [id, 'cancelled', -1, null, true]);
        await db.many(requestCancel, [id, blk]);
        // The start may have ended while the flag was on its way: only a look afterwards tells whether it stands.
        const facts = await db.maybeOne(findJobs, [[id]]);
        if (facts?.cancel_requested) {
          onRequested(id);
          return { kind: 'requested' };
        }
      }
      return { kind: 'started', state: 'running' };
    },
    cancelUnstarted: (id) => take(id, 'cancelled', 1),
    expire: (id) => take(id, 'expired', anyEpoch),
  };
}
