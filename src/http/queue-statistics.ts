// What a queue holds and does: its figures at present, and over time how long its jobs waited and ran, failures included.
// Invariant: neither counts jobs; the one comes from memory, the other from rows by the minute.
// Next room: actions/statistics.ts and actions/latency.ts.
import type { Actions } from '../actions/actions.ts';
import { Problem } from '../domain/problem.ts';
import { sendJson } from './answer.ts';
import { type Route, refusals, storeFaults } from './route.ts';
import { QueueParams } from './schemas/queue.ts';
import { LatencyMap, LatencyQuery, QueueStats, StatsQuery } from './schemas/statistics.ts';

const minute_ms = 60_000;
const hour_ms = 3_600_000;

/** `GET /v1/queues/{queue}/stats`. */
export function readQueueStats({
  statistics,
}: Actions): Route<{ Params: QueueParams; Querystring: StatsQuery }> {
  return {
    schema: {
      operationId: 'readQueueStats',
      summary: 'Read what a queue holds and does',
      description: 'All zero where nothing was ever named so.',
      tags: ['queues'],
      params: QueueParams,
      querystring: StatsQuery,
      response: {
        200: { description: 'The figures.', content: { 'application/json': { schema: QueueStats } } },
        ...refusals(...storeFaults, 'not-found', 'validation-failed'),
      },
    },
    async handler({ params: { queue }, query: { type } }, reply) {
      const figures = await (type === undefined ? statistics.of(queue) : statistics.ofType(queue, type));
      return sendJson(reply, 200, JSON.stringify(figures));
    },
  };
}

/** `GET /v1/queues/{queue}/latency`. */
export function readLatency({ latency }: Actions): Route<{ Params: QueueParams; Querystring: LatencyQuery }> {
  return {
    schema: {
      operationId: 'readLatency',
      summary: 'Read how long jobs waited and ran, over time',
      tags: ['queues'],
      params: QueueParams,
      querystring: LatencyQuery,
      response: {
        200: {
          description: 'The columns, oldest first.',
          content: { 'application/json': { schema: LatencyMap } },
        },
        ...refusals(...storeFaults, 'not-found', 'validation-failed'),
      },
    },
    async handler({ params: { queue }, query, server }, reply) {
      const { step: step_seconds, type } = query;
      const to = query.to === undefined ? server.now() : new Date(query.to);
      const wanted = query.from === undefined ? to.getTime() - hour_ms : Date.parse(query.from);
      const from = new Date(Math.floor(wanted / minute_ms) * minute_ms);
      const columns = await latency({ queue, type, from, to, step_seconds });
      if (columns === null)
        throw refused('from', 'covers more than is read at once; name a type or a later time');
      return sendJson(
        reply,
        200,
        JSON.stringify({ queue, type: type ?? null, from, to, step_seconds, columns }),
      );
    },
  };
}

function refused(member: string, detail: string): Problem {
  const pointer = `#/${member}`;
  return new Problem('validation-failed', {
    detail: `${pointer} ${detail}`,
    errors: [{ pointer, code: 'out-of-range', detail }],
  });
}
