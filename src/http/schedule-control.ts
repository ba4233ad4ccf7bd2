// Pauses, resumes and fires schedules by hand, and tells what became of their slots and who fires them.
// Invariants: pause and resume may be repeated; a job that was fired by hand is answered as one that was submitted.
// Next room: actions/trigger.ts, actions/runs.ts; schedules.ts, which defines.
import type { Actions } from '../actions/actions.ts';
import { fingerprint, parseIdempotencyKey, requestKey } from '../domain/idempotency.ts';
import { runRecord } from '../domain/schedule-record.ts';
import { byOf } from './actor.ts';
import { existing, headerOf, sendJson, sendStored, storedHeaders } from './answer.ts';
import { linkNext, nextLink } from './page.ts';
import { bodyFaults, type Route, refusals, storeFaults, withHeaders } from './route.ts';
import { answered, present, sendSchedule } from './schedule-answer.ts';
import { Job, NoMembers } from './schemas/job.ts';
import { Leader, Pause, RunList, RunQuery, ScheduleParams } from './schemas/schedule.ts';
import { replayHeader } from './submit.ts';

/** `POST /v1/schedules/{name}/pause`. */
export function pauseSchedule({ schedules }: Actions): Route<{ Params: ScheduleParams; Body: Pause }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'pauseSchedule',
      summary: 'Pause a schedule',
      description: 'Its slots are skipped and the ledger says so. One that is paused already stays as it is.',
      tags: ['schedules'],
      params: ScheduleParams,
      body: Pause,
      response: {
        200: { description: 'Paused.', ...answered },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found'),
      },
    },
    async handler(request, reply) {
      const { name } = request.params;
      const paused = await schedules.pause(name, request.body.reason, byOf(request));
      return sendSchedule(reply, 200, present(paused, name));
    },
  };
}

/** `POST /v1/schedules/{name}/resume`. */
export function resumeSchedule({ schedules }: Actions): Route<{ Params: ScheduleParams }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'resumeSchedule',
      summary: 'Resume a schedule',
      description: 'From now on its slots are fired again; those of the pause stay skipped.',
      tags: ['schedules'],
      params: ScheduleParams,
      body: NoMembers,
      response: {
        200: { description: 'It runs.', ...answered },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found'),
      },
    },
    async handler(request, reply) {
      const { name } = request.params;
      return sendSchedule(reply, 200, present(await schedules.resume(name, byOf(request)), name));
    },
  };
}

/** `POST /v1/schedules/{name}/trigger`. */
export function triggerSchedule({ trigger, inspect }: Actions): Route<{ Params: ScheduleParams }> {
  const route = 'POST /v1/schedules/{name}/trigger';
  return {
    config: { headers: ['Idempotency-Key', 'Errand-Actor'] },
    schema: {
      operationId: 'triggerSchedule',
      summary: 'Fire a schedule now',
      description: 'Also while it is paused, and whatever overlap says. The ledger calls the slot `manual`.',
      tags: ['schedules'],
      params: ScheduleParams,
      body: NoMembers,
      response: {
        202: {
          description: 'The job is stored.',
          headers: storedHeaders,
          content: { 'application/json': { schema: Job } },
        },
        ...withHeaders(
          refusals(
            ...bodyFaults,
            ...storeFaults,
            'not-found',
            'job-archived',
            'idempotency-key-malformed',
            'idempotency-key-reused',
            'idempotency-in-flight',
            'job-not-unique',
            'queue-draining',
            'outcome-unknown',
          ),
          { Location: storedHeaders.Location },
        ),
      },
    },
    async handler(request, reply) {
      const { name } = request.params;
      const key = parseIdempotencyKey(headerOf(request, 'idempotency-key'));
      const print = fingerprint(`${route} ${name}`, '', Buffer.alloc(0));
      const idempotency = key === null ? null : requestKey(key, print);
      const fired = present(await trigger(name, idempotency, byOf(request)), name);
      if (fired.replayed) reply.header(replayHeader(fired), 'true');
      return sendStored(reply, await existing(inspect, fired.id));
    },
  };
}

/** `GET /v1/schedules/{name}/runs`. */
export function listRuns({ runs }: Actions): Route<{ Params: ScheduleParams; Querystring: RunQuery }> {
  return {
    schema: {
      operationId: 'listRuns',
      summary: 'Read the ledger of a schedule',
      description:
        'One row for each slot that was due, the newest slot first: when it fired, as which job, or why it did not.',
      tags: ['schedules'],
      params: ScheduleParams,
      querystring: RunQuery,
      response: {
        200: {
          description: 'A page of the ledger.',
          headers: nextLink,
          content: { 'application/json': { schema: RunList } },
        },
        ...refusals(...storeFaults, 'not-found', 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler({ params: { name }, query }, reply) {
      const { limit, cursor, ...filter } = query;
      const { items, next_cursor } = present(await runs(name, filter, limit, cursor), name);
      linkNext(reply, `/v1/schedules/${name}/runs`, { ...query, cursor: next_cursor });
      return sendJson(reply, 200, JSON.stringify({ items: items.map(runRecord), next_cursor }));
    },
  };
}

/** `GET /v1/leader`. */
export function readLeader({ leader }: Actions): Route {
  return {
    schema: {
      operationId: 'readLeader',
      summary: 'Who fires schedules',
      tags: ['schedules'],
      response: {
        200: {
          description: 'The dispatcher that leads; all null where none does.',
          content: { 'application/json': { schema: Leader } },
        },
        ...refusals(...storeFaults),
      },
    },
    async handler(_request, reply) {
      const row = await leader();
      const leads = row !== undefined && row.left_ms > 0;
      const { holder, term, since, until, age_seconds, left_ms } = leads ? row : nobody;
      const left = left_ms === null ? null : Math.round(left_ms);
      return sendJson(reply, 200, JSON.stringify({ holder, term, since, age_seconds, until, left_ms: left }));
    },
  };
}

const nobody = { holder: null, term: null, since: null, until: null, age_seconds: null, left_ms: null };
