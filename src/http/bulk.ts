// Begins operations that need no second word: a bulk redrive, a reroute.
// Invariant: a dry run keeps nothing.
// Next room: actions/bulk.ts; operations.ts, which shows what was begun.
import type { Actions } from '../actions/actions.ts';
import { byOf } from './actor.ts';
import { sendJson } from './answer.ts';
import { begun, keyOf, sendBegun } from './operations.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { BulkRedrive, QueueParams, RedrivePreview, Reroute } from './schemas/operation.ts';

const keyFaults = ['idempotency-key-malformed', 'idempotency-key-reused'] as const;

/** `POST /v1/dead-letters/redrive`. */
export function redriveMany({ bulk }: Actions): Route<{ Body: BulkRedrive }> {
  return {
    config: { headers: ['Idempotency-Key', 'Errand-Actor'] },
    schema: {
      operationId: 'redriveMany',
      summary: 'Redrive many dead letters',
      description:
        'For each that fits a new job with every option of it, made once however often it is asked for. A dry run says how ' +
        'many there are, and which are the first.',
      tags: ['operations'],
      body: BulkRedrive,
      response: {
        200: {
          description: 'A dry run: what would be met.',
          content: { 'application/json': { schema: RedrivePreview } },
        },
        202: begun,
        ...refusals(...bodyFaults, ...storeFaults, ...keyFaults, 'queue-draining'),
      },
    },
    async handler(request, reply) {
      const { dry_run, reason, ...params } = request.body;
      if (dry_run) {
        const { extent, sample } = await bulk.preview(params.filter, params.limit);
        return sendJson(reply, 200, JSON.stringify({ dry_run: true, ...extent, sample }));
      }
      const key = keyOf(request, 'POST /v1/dead-letters/redrive');
      return sendBegun(reply, await bulk.redrive(params, reason, key, byOf(request)));
    },
  };
}

/** `POST /v1/queues/{queue}/reroute`. */
export function rerouteQueue({ bulk }: Actions): Route<{ Params: QueueParams; Body: Reroute }> {
  return {
    config: { headers: ['Idempotency-Key', 'Errand-Actor'] },
    schema: {
      operationId: 'rerouteQueue',
      summary: 'Move jobs to another queue',
      description: 'Those that wait and fit; what runs, or comes later, stays.',
      tags: ['operations'],
      params: QueueParams,
      body: Reroute,
      response: {
        202: begun,
        ...refusals(...bodyFaults, ...storeFaults, ...keyFaults, 'not-found', 'queue-draining'),
      },
    },
    async handler(request, reply) {
      const { queue } = request.params;
      const { reason, ...params } = request.body;
      const key = keyOf(request, `POST /v1/queues/{queue}/reroute ${queue}`);
      return sendBegun(reply, await bulk.reroute(queue, params, reason, key, byOf(request)));
    },
  };
}
