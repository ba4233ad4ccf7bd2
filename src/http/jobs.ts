// Reads one job and cancels it.
// Invariants: text that is no id never reaches the database; a cancel that is answered 200 is final, one that is answered
// 202 is a request to whoever runs the job.
// Next room: status.ts for what a poller needs; actions/inspect.ts and actions/cancel.ts.
import type { Actions } from '../actions/actions.ts';
import { jobEtag } from '../domain/job.ts';
import { attemptsOf } from '../domain/timeline.ts';
import { existing, headerOf, missing, sendRecord, statusPath } from './answer.ts';
import { namesTag } from './conditions.ts';
import { conflict, refuseChanged } from './control.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { Job, JobParams, JobQuery, NoMembers } from './schemas/job.ts';

const etag = { ETag: { type: 'string', description: 'The present state of the job.' } } as const;

/** `GET /v1/jobs/{id}`: the record, always 200 while the job is kept. */
export function readJob({ inspect, history }: Actions): Route<{ Params: JobParams; Querystring: JobQuery }> {
  return {
    config: { headers: ['If-None-Match'] },
    schema: {
      operationId: 'readJob',
      summary: 'Read a job',
      tags: ['jobs'],
      params: JobParams,
      querystring: JobQuery,
      response: {
        200: { description: 'The job.', headers: etag, content: { 'application/json': { schema: Job } } },
        304: { description: 'The job has not changed.', headers: etag },
        ...refusals(...storeFaults, 'not-found', 'job-archived', 'validation-failed'),
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      const facts = await existing(inspect, id);
      const known = headerOf(request, 'if-none-match');
      if (known !== undefined && namesTag(known, jobEtag(facts))) {
        return reply.code(304).header('etag', jobEtag(facts)).send();
      }
      const asked = request.query.include?.split(',') ?? [];
      const [payload, attempts] = await Promise.all([
        asked.includes('payload') ? inspect.payload(id) : undefined,
        asked.includes('attempts') ? history.attempts(id) : undefined,
      ]);
      return sendRecord(reply, 200, facts, {
        payload,
        attempts: attempts && JSON.stringify(attemptsOf(facts, attempts)),
      });
    },
  };
}

/** `POST /v1/jobs/{id}/cancel`. */
export function cancelJob({ inspect, cancel }: Actions): Route<{ Params: JobParams }> {
  return {
    config: { headers: ['If-Match'] },
    schema: {
      operationId: 'cancelJob',
      summary: 'Cancel a job',
      description: 'A job that has not started is cancelled at once; one that runs is asked to stop.',
      tags: ['jobs'],
      params: JobParams,
      body: NoMembers,
      response: {
        200: { description: 'Cancelled.', headers: etag, content: { 'application/json': { schema: Job } } },
        202: {
          description: 'The job runs; it was asked to stop, and no new attempt will start.',
          headers: { ...etag, Location: { type: 'string', description: 'The status of the job.' } },
          content: { 'application/json': { schema: Job } },
        },
        ...refusals(
          ...bodyFaults,
          ...storeFaults,
          'not-found',
          'job-archived',
          'job-state-conflict',
          'precondition-failed',
        ),
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      const expected = headerOf(request, 'if-match');
      if (expected !== undefined) refuseChanged(await existing(inspect, id), expected);
      const answer = await cancel.cancel(id);
      if (answer.kind === 'absent') return missing(inspect, id);
      const facts = await existing(inspect, id);
      if (facts.state === 'cancelled') return sendRecord(reply, 200, facts);
      if (answer.kind !== 'requested') throw conflict(facts, facts.state, 'cancelled');
      return sendRecord(reply.header('location', statusPath(id)), 202, facts);
    },
  };
}
