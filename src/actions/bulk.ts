// Begins what needs no second word: bulk redrives and reroutes. A dry run says what would be met, and keeps nothing.
// Invariants: what cannot be meant (a reroute of a queue to itself, or of one that nobody has named) is refused before anything
// is kept; nothing is begun that brings jobs into a queue that takes none.
// Next room: operations.ts; redrive-many.ts and reroute.ts, whose steps follow.
import type { By } from '../domain/actor.ts';
import type { LetterFilter } from '../domain/dead-letter.ts';
import type { RequestKey } from '../domain/idempotency.ts';
import { type Extent, limitedTo, type OperationFacts } from '../domain/operation.ts';
import { Problem } from '../domain/problem.ts';
import type { Pool } from '../store/db.ts';
import { waitingExtent } from './dangerous.ts';
import type { Operations } from './operations.ts';
import { absenceOf } from './queues.ts';
import { countFitting, type RedriveParams, sampleOf } from './redrive-many.ts';
import type { RerouteParams } from './reroute.ts';

/** An operation that was begun, now or by the same key before. */
export interface Begun {
  operation: OperationFacts;
  replayed: boolean;
}

export interface Bulk {
  redrive(params: RedriveParams, reason: string | null, key: RequestKey | null, by: By): Promise<Begun>;
  /** What a redrive would meet, and the first of it. */
  preview(filter: LetterFilter, limit: number | null): Promise<{ extent: Extent; sample: string[] }>;
  reroute(
    queue: string,
    params: RerouteParams,
    reason: string | null,
    key: RequestKey | null,
    by: By,
  ): Promise<Begun>;
}

const most_sample = 10;

export function bulking(options: {
  db: Pool;
  operations: Operations;
  /** Why a queue takes no job; null: it does. */
  closed: (queue: string, pointer: string | null) => Problem | null;
}): Bulk {
  const { db, operations, closed } = options;
  return {
    async redrive(params, reason, key, by) {
      const { filter, limit, canary } = params;
      const expected = limitedTo(await countFitting(db, filter), limit);
      const phase = canary === null ? 'work' : 'canary';
      const target = filter.queue ?? '*';
      // Letters of any queue are refused one by one.
      const to = params.queue ?? filter.queue;
      const pointer = params.queue === undefined ? '#/filter/queue' : '#/queue';
      const wish = { kind: 'dead_letters.redrive', target, params, reason, phase, expected } as const;
      return operations.begin(wish, key, by, to === undefined ? null : closed(to, pointer));
    },
    async preview(filter, limit) {
      const extent = limitedTo(await countFitting(db, filter), limit);
      return { extent, sample: await sampleOf(db, filter, Math.min(most_sample, limit ?? most_sample)) };
    },
    async reroute(queue, params, reason, key, by) {
      if (params.to === queue) {
        throw new Problem('validation-failed', {
          detail: `queue "${queue}" cannot be rerouted to itself; name another`,
          errors: [{ pointer: '#/to', code: 'custom', detail: 'is the queue itself; name another' }],
        });
      }
      const extent = await waitingExtent(db, queue, params.filter, params.states);
      const expected = limitedTo(extent, params.limit);
      const wish = { kind: 'queue.reroute', target: queue, params, reason, phase: 'work', expected } as const;
      const refusal = (await absenceOf(db, queue)) ?? closed(params.to, '#/to');
      return operations.begin(wish, key, by, refusal);
    },
  };
}
