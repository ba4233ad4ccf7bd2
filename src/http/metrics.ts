// Serves the metrics. Next room: telemetry/metrics.ts, which counts.
import { z } from 'zod';
import type { Metrics } from './context.ts';
import { type Route, refusals } from './route.ts';

/** `GET /metrics`, in the text form of Prometheus. */
export function readMetrics(metrics: Metrics): Route {
  return {
    schema: {
      operationId: 'readMetrics',
      summary: 'Metrics for Prometheus',
      tags: ['service'],
      response: {
        200: { description: 'All metrics.', content: { 'text/plain': { schema: z.string() } } },
        ...refusals(),
      },
    },
    async handler(_request, reply) {
      return reply.type(metrics.contentType).send(await metrics.text());
    },
  };
}
