// Shows what died and why, and lets somebody decide: redrive it or discard it.
// Invariants: a letter is redriven once, and asked for again it answers the same Location; a discard that is repeated
// changes nothing; neither decision undoes the other.
// Next room: actions/dead-letters.ts.
import type { Actions } from '../actions/actions.ts';
import { isTerminal } from '../domain/job.ts';
import { Problem } from '../domain/problem.ts';
import { type NamedFacts, recordText } from '../domain/record.ts';
import { attemptsOf } from '../domain/timeline.ts';
import { byOf } from './actor.ts';
import { existing, sendJson, sendRecord, spliced, statusPath, withPayload } from './answer.ts';
import { linkNext, nextLink } from './page.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import {
  DeadJob,
  DeadJobQuery,
  DeadLetterGroups,
  DeadLetterList,
  Discard,
  LetterQuery,
  Redrive,
} from './schemas/dead-letter.ts';
import { Job, JobParams } from './schemas/job.ts';

/** `GET /v1/dead-letters`. */
export function listDeadLetters({ deadLetters }: Actions): Route<{ Querystring: LetterQuery }> {
  return {
    schema: {
      operationId: 'listDeadLetters',
      summary: 'List what died',
      description:
        'The latest death first; with `group_by` the causes, the largest group first. A page may be short, even empty: ' +
        'follow `next_cursor` until it is null.',
      tags: ['dead-letters'],
      querystring: LetterQuery,
      response: {
        200: {
          description: 'A page of letters, or the groups of all that fit.',
          headers: nextLink,
          content: { 'application/json': { schema: DeadLetterList.or(DeadLetterGroups) } },
        },
        ...refusals(...storeFaults, 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler(request, reply) {
      const { limit, cursor, group_by, ...filter } = request.query;
      if (group_by !== undefined) {
        return sendJson(reply, 200, JSON.stringify(await deadLetters.groups(filter, limit)));
      }
      const page = await deadLetters.page(filter, limit, cursor);
      linkNext(reply, '/v1/dead-letters', { ...filter, limit, cursor: page.next_cursor });
      return sendJson(reply, 200, JSON.stringify(page));
    },
  };
}

/** `GET /v1/dead-letters/{id}`. */
export function readDeadLetter({
  deadLetters,
  inspect,
  history,
}: Actions): Route<{ Params: JobParams; Querystring: DeadJobQuery }> {
  return {
    schema: {
      operationId: 'readDeadLetter',
      summary: 'Read what died',
      description: 'The job with every attempt, and what was decided about it.',
      tags: ['dead-letters'],
      params: JobParams,
      querystring: DeadJobQuery,
      response: {
        200: { description: 'The dead job.', content: { 'application/json': { schema: DeadJob } } },
        ...refusals(...storeFaults, 'not-found', 'job-archived', 'validation-failed'),
      },
    },
    async handler({ params: { id }, query: { include } }, reply) {
      const facts = await existing(inspect, id);
      if (facts.state !== 'dead') throw notDead(facts);
      const [payload, past, decision] = await Promise.all([
        include === undefined ? undefined : inspect.payload(id),
        history.attempts(id),
        deadLetters.decision(id),
      ]);
      const record = recordText(facts);
      const job = payload === undefined ? record : withPayload(record, payload, facts.options);
      const attempts = JSON.stringify(attemptsOf(facts, past));
      // The payload is the last member of the job, and the job of the answer.
      const text = spliced(spliced(JSON.stringify(decision), 'attempts', attempts), 'job', job);
      return sendJson(reply, 200, text);
    },
  };
}

/** `POST /v1/dead-letters/{id}/redrive`. */
export function redriveDeadLetter(actions: Actions): Route<{ Params: JobParams; Body: Redrive }> {
  const { deadLetters, inspect } = actions;
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'redriveDeadLetter',
      summary: 'Run a dead job again',
      description:
        'Makes a new job with every option of the dead one, takes the letter out of the list, and answers the same ' +
        'Location when it is asked for again.',
      tags: ['dead-letters'],
      params: JobParams,
      body: Redrive,
      response: {
        202: {
          description: 'The job that repeats it.',
          headers: {
            ETag: { type: 'string', description: 'The present state of the job.' },
            Location: { type: 'string', description: 'The status of the new job.' },
            'Content-Location': { type: 'string', description: 'Its record, which the body represents.' },
          },
          content: { 'application/json': { schema: Job } },
        },
        ...refusals(...decisionFaults, 'queue-draining'),
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      const { reason, ...wish } = request.body;
      const answer = await deadLetters.redrive(id, wish, reason ?? null, byOf(request));
      if (answer.kind === 'no_letter') throw await undecidable(actions, id);
      if (answer.kind === 'closed') throw await undecidable(actions, id, answer.refusal);
      const facts = await existing(inspect, answer.id);
      reply.header('location', statusPath(facts.id)).header('content-location', `/v1/jobs/${facts.id}`);
      return sendRecord(reply, 202, facts);
    },
  };
}

/** `POST /v1/dead-letters/{id}/discard`. */
export function discardDeadLetter(actions: Actions): Route<{ Params: JobParams; Body: Discard }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'discardDeadLetter',
      summary: 'Take a letter out of the list',
      description: 'The job stays dead and can be read; repeated, the call changes nothing.',
      tags: ['dead-letters'],
      params: JobParams,
      body: Discard,
      response: {
        200: {
          description: 'It is out of the list.',
          headers: { ETag: { type: 'string', description: 'The present state of the job.' } },
          content: { 'application/json': { schema: Job } },
        },
        ...refusals(...decisionFaults),
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      const isOut = await actions.deadLetters.discard(id, request.body.reason ?? null, byOf(request));
      if (!isOut) throw await undecidable(actions, id);
      return sendRecord(reply, 200, await existing(actions.inspect, id));
    },
  };
}

const decisionFaults = [
  ...bodyFaults,
  ...storeFaults,
  'not-found',
  'job-archived',
  'job-state-conflict',
] as const;

/** Why there is nothing to decide about a job, or, where there would be, why it is refused. */
async function undecidable(
  { inspect, deadLetters }: Actions,
  id: string,
  refusal?: Problem,
): Promise<Problem> {
  const facts = await existing(inspect, id);
  const { discarded, redriven_as } = await deadLetters.decision(id);
  if (refusal !== undefined && facts.state === 'dead' && redriven_as === null && !discarded) return refusal;
  const why =
    facts.state !== 'dead'
      ? `is ${facts.state} and not dead; read it at /v1/jobs/${id}`
      : redriven_as !== null
        ? `was redriven as job ${redriven_as}; follow that one`
        : discarded
          ? `was discarded; POST /v1/jobs/${id}/retry runs it again all the same`
          : 'has no letter yet; try again';
  return new Problem('job-state-conflict', {
    detail: `job ${id} ${why}`,
    retryable: facts.state === 'dead' ? redriven_as === null && !discarded : !isTerminal(facts.state),
    job: JSON.parse(recordText(facts)),
  });
}

function notDead({ id, state }: NamedFacts): Problem {
  return new Problem('not-found', {
    detail: `job ${id} is ${state} and not dead; read it at /v1/jobs/${id}`,
  });
}
