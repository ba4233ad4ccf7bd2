// What a poller needs: how far the job is, and the way to its result.
// Invariants: 303 leads to paths of this server only, because clients carry their credentials along;
// the result leaves byte for byte; a poll that waits is held by the process, never by a connection to the database.
// Next room: actions/watch.ts, which holds; jobs.ts for the whole record.
import type { FastifyReply } from 'fastify';
import type { Actions } from '../actions/actions.ts';
import type { WaitLimits } from '../domain/expectation.ts';
import { isTerminal, jobEtag } from '../domain/job.ts';
import { Problem } from '../domain/problem.ts';
import { type NamedFacts, statusText } from '../domain/record.ts';
import {
  departure,
  existing,
  hasRoom,
  headerOf,
  headerSafe,
  isOwnPath,
  missing,
  sendJson,
  sendNobody,
  setRetryAfter,
  spliced,
} from './answer.ts';
import { namesTag } from './conditions.ts';
import { wishedWait } from './negotiate.ts';
import { type Route, refusals, storeFaults } from './route.ts';
import { JobParams, JobStatus } from './schemas/job.ts';
import { JsonValue } from './schemas/scalars.ts';

const revalidated = 'private, no-cache';

const etag = { ETag: { type: 'string', description: 'The present state of the job.' } } as const;
const polled = {
  ...etag,
  'Preference-Applied': { type: 'string', description: 'The wait that was honoured.' },
} as const;
const openToo = {
  ...polled,
  'Retry-After': { type: 'integer', description: 'Seconds after which to ask again, while the job is open.' },
} as const;

/** `GET /v1/jobs/{id}/status`: 200 while open, 303 to the result once there is one. */
export function readStatus(actions: Actions, limits: WaitLimits): Route<{ Params: JobParams }> {
  return {
    config: { headers: ['Prefer', 'If-None-Match'] },
    schema: {
      operationId: 'readStatus',
      summary: 'Follow a job',
      description:
        'With `Prefer: wait=N` it answers as soon as the state changes: from the one named by If-None-Match, or from ' +
        'the one found.',
      tags: ['jobs'],
      params: JobParams,
      response: {
        200: {
          description: 'The job is open, or ended without a result to go to.',
          headers: openToo,
          content: { 'application/json': { schema: JobStatus } },
        },
        303: {
          description: 'The job succeeded: go to Location.',
          headers: {
            ...polled,
            Location: { type: 'string', description: 'The result, or what was created.' },
          },
          content: { 'application/json': { schema: JobStatus } },
        },
        304: { description: 'The state is still the one that If-None-Match names.', headers: openToo },
        ...refusals(...storeFaults, 'not-found', 'job-archived'),
      },
    },
    async handler(request, reply) {
      reply.header('cache-control', revalidated);
      const known = headerOf(request, 'if-none-match');
      const wish = wishedWait(request, limits);
      let facts: NamedFacts | null = await existing(actions.inspect, request.params.id);
      if (wish.applied !== null) {
        reply.header('preference-applied', wish.applied);
        facts = await untilChanged(actions, reply, facts, known ?? jobEtag(facts), wish.ms);
      }
      return facts === null ? sendNobody(reply) : sendStatus(reply, facts, known);
    },
  };
}

/** `GET /v1/jobs/{id}/result`: the result as it was sent. */
export function readResult({ inspect }: Actions): Route<{ Params: JobParams }> {
  const created = {
    'Content-Location': { type: 'string', description: 'URI of what the job created, where it named one.' },
  } as const;
  return {
    config: { headers: ['If-None-Match'] },
    schema: {
      operationId: 'readResult',
      summary: 'Read the result of a job',
      tags: ['jobs'],
      params: JobParams,
      response: {
        200: {
          description: 'The result, byte for byte.',
          headers: { ...etag, ...created },
          content: { 'application/json': { schema: JsonValue } },
        },
        204: { description: 'The job succeeded and left no result.', headers: created },
        304: { description: 'The result is the one you have.', headers: { ...etag, ...created } },
        ...refusals(...storeFaults, 'not-found', 'result-not-ready', 'result-expired'),
      },
    },
    async handler(request, reply) {
      reply.header('cache-control', revalidated);
      const { id } = request.params;
      const facts = await existing(inspect, id, 'result-expired');
      if (facts.state !== 'succeeded') throw notReady(reply, facts);
      const row = await inspect.result(id);
      if (row === undefined) return missing(inspect, id, 'result-expired');
      if (row.created_uri !== null) reply.header('content-location', headerSafe(row.created_uri));
      if (row.result === null) return reply.code(204).send();
      reply.header('etag', jobEtag(facts));
      const known = headerOf(request, 'if-none-match');
      if (known !== undefined && namesTag(known, jobEtag(facts))) return reply.code(304).send();
      return sendJson(reply, 200, row.result);
    },
  };
}

async function untilChanged(
  { inspect, waiters, watch }: Actions,
  reply: FastifyReply,
  found: NamedFacts,
  known: string,
  ms: number,
): Promise<NamedFacts | null> {
  const isSame = (facts: NamedFacts) => !isTerminal(facts.state) && namesTag(known, jobEtag(facts));
  if (!isSame(found) || !hasRoom(waiters)) return found;
  const gone = departure(reply);
  const place = waiters.reserve();
  const watched = watch.watch(found.id);
  try {
    let facts = found;
    const until = performance.now() + ms;
    for (let left = ms; left > 0 && isSame(facts); left = until - performance.now()) {
      const over = await watched.news(left, gone);
      if (over === 'gone') return null;
      facts = await existing(inspect, found.id);
      if (over === 'drained') break;
    }
    return facts;
  } finally {
    watched.close();
    place.leave();
  }
}

function sendStatus(reply: FastifyReply, facts: NamedFacts, known: string | undefined): FastifyReply {
  const etag = jobEtag(facts);
  reply.header('etag', etag);
  const goal = goalOf(facts);
  const body = statusText(facts);
  if (goal !== null) return sendJson(reply.header('location', goal), 303, body);
  const estimate = setRetryAfter(reply, facts);
  // RFC 9110 section 13.2.1: a condition counts only where the answer would have been 200, so not before a 303.
  if (known !== undefined && namesTag(known, etag)) return reply.code(304).send();
  return sendJson(reply, 200, spliced(body, 'estimate', estimate));
}

function goalOf(facts: NamedFacts): string | null {
  if (facts.state !== 'succeeded') return null;
  if (facts.has_result) return `/v1/jobs/${facts.id}/result`;
  return facts.created_uri !== null && isOwnPath(facts.created_uri) ? headerSafe(facts.created_uri) : null;
}

function notReady(reply: FastifyReply, facts: NamedFacts): Problem {
  const { id, state } = facts;
  if (isTerminal(state)) {
    const detail = `job ${id} is ${state} and left no result; read its record for the reason`;
    return new Problem('result-not-ready', { detail, retryable: false, job: { id, state } });
  }
  setRetryAfter(reply, facts);
  const retry = reply.getHeader('retry-after');
  return new Problem('result-not-ready', {
    detail: `job ${id} is ${state}; follow its status`,
    headers: retry === undefined ? {} : { 'retry-after': String(retry) },
    job: { id, state },
  });
}
