// Whether this process is well, for probes and people. These routes answer without a database and without /v1.
// Invariant: what a probe reads is decided in telemetry/health.ts alone; here it only gets its status.
// Next room: telemetry/health.ts.
import { z } from 'zod';
import { sendText } from './answer.ts';
import { type Route, refusals } from './route.ts';

/** One probe's answer. */
export interface HealthAnswer {
  ok: boolean;
  reason?: string;
}

/** What the probes ask; telemetry/health.ts is the real one. */
export interface Health {
  live(): HealthAnswer;
  ready(): HealthAnswer | Promise<HealthAnswer>;
  startup(): HealthAnswer;
  report(): Promise<{ ok: boolean; body: object }>;
}

const healthType = 'application/health+json';

const HealthReport = z
  .looseObject({
    status: z.enum(['pass', 'warn', 'fail']),
    output: z.string().optional().describe('Why it is not well.'),
  })
  .meta({ id: 'Health', description: 'Whether it is well (draft-inadarei-api-health-check-06).' });

const report = { [healthType]: { schema: HealthReport } };
const refused = refusals();

const answers = {
  200: { description: 'It is well.', content: report },
  ...refused,
  503: {
    ...refused[503],
    description: 'It is not well, or closing.',
    content: { ...report, ...refused[503]?.content },
  },
};

/** `GET /health`: everything, for people and dashboards. */
export function readHealth(health: Health): Route {
  return {
    schema: { operationId: 'readHealth', summary: 'Health in detail', tags: ['service'], response: answers },
    async handler(_request, reply) {
      const { ok, body } = await health.report();
      return sendText(reply.code(ok ? 200 : 503), healthType, JSON.stringify(body));
    },
  };
}

/** `GET /health/live|ready|startup`: one probe. */
export function probe(health: Health, which: 'live' | 'ready' | 'startup', summary: string): Route {
  return {
    schema: { operationId: `${which}Probe`, summary, tags: ['service'], response: answers },
    async handler(_request, reply) {
      const { ok, reason } = await health[which]();
      const body = { status: ok ? 'pass' : 'fail', ...(reason === undefined ? {} : { output: reason }) };
      return sendText(reply.code(ok ? 200 : 503), healthType, JSON.stringify(body));
    },
  };
}
