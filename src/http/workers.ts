// Shows who takes work, what each runs, and which ready jobs nobody takes.
// Next room: actions/roster.ts.
import type { Actions } from '../actions/actions.ts';
import { type Enlisted, on_duty_seconds } from '../actions/roster.ts';
import { typeOf } from '../domain/options.ts';
import { sendJson } from './answer.ts';
import { linkNext, nextLink } from './page.ts';
import { type Route, refusals, storeFaults } from './route.ts';
import { WorkerList, WorkerQuery } from './schemas/worker.ts';

/** `GET /v1/workers`. */
export function listWorkers({ roster }: Actions): Route<{ Querystring: WorkerQuery }> {
  return {
    schema: {
      operationId: 'listWorkers',
      summary: 'List who takes work',
      description:
        'Processes of Errand with handlers or pushes, and pull workers, with the jobs they hold; and the ready jobs that ' +
        'nobody takes. Who was not heard of for a minute and holds no lease is not listed.',
      tags: ['workers'],
      querystring: WorkerQuery,
      response: {
        200: {
          description: 'A page of workers.',
          headers: nextLink,
          content: { 'application/json': { schema: WorkerList } },
        },
        ...refusals(...storeFaults, 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler({ query: { limit, cursor } }, reply) {
      const [{ items, next_cursor }, missed] = await Promise.all([
        roster.page(limit, cursor),
        roster.unserved(),
      ]);
      linkNext(reply, '/v1/workers', { limit, cursor: next_cursor });
      const unserved = missed.map(({ lane, queued }) => ({
        queue: lane.queue,
        type: typeOf(lane.route),
        queued,
      }));
      return sendJson(reply, 200, JSON.stringify({ items: items.map(shown), next_cursor, unserved }));
    },
  };
}

function shown(one: Enlisted) {
  const { name, kind, version, queues, types, pushes, slots, running, jobs, since, seen_at, silent_ms } = one;
  return {
    name,
    kind,
    version,
    queues,
    types,
    pushes,
    slots,
    running,
    jobs: jobs.map(({ id, started_at, until }) => ({
      id,
      started_at: new Date(started_at).toISOString(),
      lease_until: new Date(until).toISOString(),
    })),
    since: since.toISOString(),
    seen_at: seen_at.toISOString(),
    present: silent_ms <= on_duty_seconds * 1_000,
  };
}
