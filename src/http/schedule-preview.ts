// Shows when a schedule would fire, before it ever does: the local time, its offset, and what clock changes make of it.
// Invariant: it refuses what PUT refuses, and shows the slots that will be fired.
// Next room: domain/forecast.ts; definition.ts, which both go through.
import type { FastifyReply } from 'fastify';
import type { Actions } from '../actions/actions.ts';
import { forecastOf } from '../domain/forecast.ts';
import type { Definition } from '../domain/schedule.ts';
import { sendJson } from './answer.ts';
import { soundCadence, wishOf } from './definition.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { existing } from './schedule-answer.ts';
import { NewSchedule } from './schemas/definition.ts';
import { Forecast, ForecastQuery, PreviewQuery, ScheduleParams } from './schemas/schedule.ts';
import type { Terms } from './submission.ts';

const shown = {
  200: { description: 'The slots to come.', content: { 'application/json': { schema: Forecast } } },
} as const;

/** `GET /v1/schedules/{name}/preview`. */
export function forecastSchedule({
  schedules,
}: Actions): Route<{ Params: ScheduleParams; Querystring: ForecastQuery }> {
  return {
    schema: {
      operationId: 'forecastSchedule',
      summary: 'See when a schedule will fire',
      tags: ['schedules'],
      params: ScheduleParams,
      querystring: ForecastQuery,
      response: { ...shown, ...refusals(...storeFaults, 'not-found', 'validation-failed') },
    },
    async handler({ params: { name }, query: { count, from } }, reply) {
      const { definition } = await existing(schedules, name);
      return sendForecast(reply, definition, name, count, await momentOf(schedules, from));
    },
  };
}

/** `POST /v1/schedules/preview`. */
export function previewSchedule(
  { schedules }: Actions,
  terms: Terms,
): Route<{ Querystring: PreviewQuery; Body: NewSchedule }> {
  return {
    schema: {
      operationId: 'previewSchedule',
      summary: 'Check a schedule without defining it',
      tags: ['schedules'],
      querystring: PreviewQuery,
      body: NewSchedule,
      response: { ...shown, ...refusals(...bodyFaults, ...storeFaults) },
    },
    async handler({ query: { name = '', count, from }, body }, reply) {
      const { definition } = wishOf(body, name, terms);
      return sendForecast(reply, definition, name, count, await momentOf(schedules, from));
    },
  };
}

async function momentOf(schedules: Actions['schedules'], from: string | undefined): Promise<Date> {
  return from === undefined ? schedules.now() : new Date(from);
}

function sendForecast(
  reply: FastifyReply,
  definition: Definition,
  name: string,
  count: number,
  after: Date,
): FastifyReply {
  const { timezone, jitter_seconds } = definition;
  const cadence = soundCadence(definition, name);
  return sendJson(
    reply,
    200,
    JSON.stringify(forecastOf({ cadence, timezone, jitter_seconds, name }, count, after)),
  );
}
