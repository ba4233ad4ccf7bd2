// Changes a job that waits and makes one that ended run again.
// Invariants: a change is made to the job that If-Match names, or not at all; a repeat is made once, and asked for again it
// answers the same Location.
// Next room: actions/change.ts; jobs.ts reads and cancels.
import type { Actions } from '../actions/actions.ts';
import { isTerminal, type JobState, jobEtag } from '../domain/job.ts';
import { Problem } from '../domain/problem.ts';
import { type NamedFacts, recordText } from '../domain/record.ts';
import { existing, headerOf, missing, sendRecord, statusPath } from './answer.ts';
import { matchesTag, mismatch } from './conditions.ts';
import { mergePatchType } from './problem.ts';
import { bodyFaults, type Route, refusals, storeFaults, withHeaders } from './route.ts';
import { Job, JobParams, JobPatch, NoMembers } from './schemas/job.ts';

const etag = { ETag: { type: 'string', description: 'The present state of the job.' } } as const;

/** `PATCH /v1/jobs/{id}` (RFC 7396). */
export function patchJob({ change, inspect }: Actions): Route<{ Params: JobParams; Body: JobPatch }> {
  return {
    config: { headers: ['If-Match'] },
    schema: {
      operationId: 'patchJob',
      summary: 'Change a job that has not started',
      description:
        'A merge patch: what is absent stays. A job keeps its place unless queue or priority change.',
      tags: ['jobs'],
      params: JobParams,
      consumes: [mergePatchType, 'application/json'],
      body: JobPatch,
      response: {
        200: { description: 'Changed.', headers: etag, content: { 'application/json': { schema: Job } } },
        ...refusals(
          ...bodyFaults,
          ...storeFaults,
          'not-found',
          'job-archived',
          'job-state-conflict',
          'queue-draining',
          'precondition-failed',
        ),
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      const expected = headerOf(request, 'if-match');
      const { tags, ...patch } = request.body;
      const answer = await change.change(id, { ...patch, tags: tags === null ? [] : tags }, (facts) =>
        refuseChanged(facts, expected),
      );
      if (answer.kind === 'absent') return missing(inspect, id);
      const facts = await existing(inspect, id);
      if (answer.kind === 'conflict') throw conflict(facts, answer.state, 'changed');
      return sendRecord(reply, 200, facts);
    },
  };
}

/** `POST /v1/jobs/{id}/retry`. */
export function retryJob({ change, inspect }: Actions): Route<{ Params: JobParams }> {
  return {
    schema: {
      operationId: 'retryJob',
      summary: 'Run a job again',
      description:
        'A job that waits for its next attempt runs now. One that is dead, cancelled or expired is repeated by a new job ' +
        'with every option of it; asked for again, it answers the same Location.',
      tags: ['jobs'],
      params: JobParams,
      body: NoMembers,
      response: {
        202: {
          description: 'It will run: this job, or the one that repeats it.',
          headers: {
            ...etag,
            Location: { type: 'string', description: 'The status of the job that runs.' },
            'Content-Location': { type: 'string', description: 'Its record, which the body represents.' },
          },
          content: { 'application/json': { schema: Job } },
        },
        ...withHeaders(
          refusals(
            ...bodyFaults,
            ...storeFaults,
            'not-found',
            'job-archived',
            'job-state-conflict',
            'job-not-unique',
            'queue-draining',
          ),
          { Location: { type: 'string', description: 'The status of the job that holds its unique key.' } },
        ),
      },
    },
    async handler({ params: { id } }, reply) {
      const answer = await change.retry(id);
      if (answer.kind === 'absent') return missing(inspect, id);
      if (answer.kind === 'held') throw heldBy(id, answer);
      const facts = await existing(inspect, answer.kind === 'retried' ? answer.id : id);
      if (answer.kind === 'conflict') throw conflict(facts, answer.state, 'run again');
      reply.header('location', statusPath(facts.id)).header('content-location', `/v1/jobs/${facts.id}`);
      return sendRecord(reply, 202, facts);
    },
  };
}

/** Throws 412 unless the job is as `If-Match` says (RFC 9110 section 13.1.1). */
export function refuseChanged(facts: NamedFacts, expected: string | undefined): void {
  if (expected === undefined) return;
  const now = jobEtag(facts);
  if (matchesTag(expected, now)) return;
  throw new Problem('precondition-failed', {
    detail: mismatch(expected, `job ${facts.id}`),
    headers: { etag: now },
  });
}

function heldBy(id: string, { holder, state }: { holder: string; state: JobState }): Problem {
  return new Problem('job-not-unique', {
    detail: `job ${holder} holds the unique key of job ${id}; follow Location, and repeat it when that has ended`,
    headers: { location: statusPath(holder) },
    job: { id: holder, state },
  });
}

/** That the state of a job does not allow what was asked, and what is possible instead. */
export function conflict(facts: NamedFacts, state: JobState, verb: string): Problem {
  return new Problem('job-state-conflict', {
    detail: `job ${facts.id} is ${state} and cannot be ${verb}; ${insteadOf(state, facts.id, verb)}`,
    job: JSON.parse(recordText(facts)),
  });
}

function insteadOf(state: JobState, id: string, verb: string): string {
  if (verb === 'cancelled' && isTerminal(state)) return 'nothing of it is left to stop';
  switch (state) {
    case 'succeeded':
      return 'submit a new one';
    case 'dead':
    case 'cancelled':
    case 'expired':
      return `POST /v1/jobs/${id}/retry repeats it`;
    case 'running':
      return 'wait for its end, or cancel it';
    case 'scheduled':
      return `PATCH /v1/jobs/${id} with "run_at":null makes it due now`;
    case 'blocked':
      return 'it goes on when the job that holds its unique key has ended';
    case 'queued':
    case 'retrying':
      return 'read it again, and repeat the call if it still waits';
  }
}
