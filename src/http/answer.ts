// How a job is written into an answer: record, status, headers. Answers are written as text, because payload and result
// must leave as they came and because a schema run over what we made ourselves proves nothing.
// Invariants: header values that callers named are plain ASCII; an id that was given out and is gone is 410, not 404.
// Next room: the routes: submit.ts, jobs.ts, status.ts.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Inspect } from '../actions/inspect.ts';
import type { Waiters } from '../actions/wait.ts';
import type { AnswerMode } from '../domain/expectation.ts';
import { jobEtag } from '../domain/job.ts';
import type { JobOptions } from '../domain/options.ts';
import { shownPayload } from '../domain/payload.ts';
import { Problem } from '../domain/problem.ts';
import type { ProblemSlug } from '../domain/problems.ts';
import { type NamedFacts, recordText } from '../domain/record.ts';
import type { Estimate } from '../domain/retry-after.ts';

/** Sends JSON text. */
export function sendJson(reply: FastifyReply, status: number, text: string): FastifyReply {
  return sendText(reply.code(status), 'application/json', text);
}

/** Sends text with exactly this content type: Fastify would add a charset, which JSON types do not have. */
export function sendText(reply: FastifyReply, type: string, text: string): FastifyReply {
  return reply.type(type).serializer(asItIs).send(text);
}

const asItIs = (text: unknown) => text as string;

/** Sends the record of a job, with more members where they are given as JSON text. */
export function sendRecord(
  reply: FastifyReply,
  status: number,
  facts: NamedFacts,
  {
    payload,
    attempts,
    estimate,
  }: { payload?: string | undefined; attempts?: string | undefined; estimate?: string | undefined } = {},
): FastifyReply {
  reply.header('etag', jobEtag(facts));
  const record = recordText(facts);
  const text = payload === undefined ? record : withPayload(record, payload, facts.options);
  return sendJson(reply, status, spliced(spliced(text, 'attempts', attempts), 'estimate', estimate));
}

/** Sends the 202 of a submit: stored, to be followed at Location. */
export function sendAccepted(reply: FastifyReply, mode: AnswerMode, facts: NamedFacts): FastifyReply {
  if (mode.preferenceApplied !== null) reply.header('preference-applied', mode.preferenceApplied);
  if (!mode.returnMinimal) return sendStored(reply, facts);
  setRetryAfter(reply, facts);
  return pointing(reply, facts).code(202).header('etag', jobEtag(facts)).send();
}

/** Sends the 202 of a job that is stored, with its record. */
export function sendStored(reply: FastifyReply, facts: NamedFacts): FastifyReply {
  const estimate = setRetryAfter(reply, facts);
  return sendRecord(pointing(reply, facts), 202, facts, { estimate });
}

/** What comes with that, as the document tells of it. */
export const storedHeaders = {
  Location: { type: 'string', description: 'The status of the job, to be followed.' },
  'Content-Location': { type: 'string', description: 'The record of the job, which the body represents.' },
  ETag: { type: 'string', description: 'The present state of the job.' },
  'Retry-After': { type: 'integer', description: 'Seconds after which to ask for the status.' },
  'Idempotency-Replayed': {
    type: 'string',
    description: '`true` where the key named a job that was there already.',
  },
  'Errand-Deduplicated': {
    type: 'string',
    description: '`true` where the job of another request holds the unique key and is the answer.',
  },
} as const;

function pointing(reply: FastifyReply, facts: NamedFacts): FastifyReply {
  return reply.header('location', statusPath(facts.id)).header('content-location', `/v1/jobs/${facts.id}`);
}

/** Adds a payload to the text of an object, in the member its media type calls for. */
export function withPayload(object: string, payload: string, options: JobOptions | null): string {
  const { member, text } = shownPayload(payload, options);
  return spliced(object, member, text);
}

/** Adds a member that is JSON text already to the text of an object. */
export function spliced(object: string, member: string, text: string | undefined): string {
  return text === undefined ? object : `${object.slice(0, -1)},"${member}":${text}}`;
}

/** Says in `Retry-After` when to ask for an open job again. Answers the same as JSON text for the body; undefined: it ended. */
export function setRetryAfter(reply: FastifyReply, facts: NamedFacts): string | undefined {
  const estimate = reply.server.estimate(facts, reply.server.now());
  if (estimate === null) return undefined;
  reply.header('retry-after', estimate.seconds);
  return estimateText(estimate);
}

/** The estimate in a body. */
function estimateText({ seconds, basis }: Estimate): string {
  return `{"seconds":${seconds},"basis":"${basis}"}`;
}

/** The path to follow for a job. */
export function statusPath(id: string): string {
  return `/v1/jobs/${id}/status`;
}

/** The facts of a job; throws 404 for an id that was never given out and 410 for one that is no longer kept. */
export async function existing(
  inspect: Inspect,
  id: string,
  gone: ProblemSlug = 'job-archived',
): Promise<NamedFacts> {
  return (await inspect.job(id)) ?? missing(inspect, id, gone);
}

/** Throws what is to be said of a job that is not there. */
export async function missing(
  inspect: Inspect,
  id: string,
  gone: ProblemSlug = 'job-archived',
): Promise<never> {
  if (await inspect.isGone(id)) {
    throw new Problem(gone, {
      detail: `job ${id} ended and is no longer kept; read jobs within the retention time`,
    });
  }
  throw new Problem('not-found', { detail: `there is no job ${id}; take URLs from Location and Link` });
}

/** Whether another caller can be held at present: for a wish, which may go without. */
export function hasRoom(waiters: Waiters): boolean {
  try {
    waiters.admit();
    return true;
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
}

/** Aborts when the caller of a request goes away before the answer was written. */
export function departure(reply: FastifyReply): AbortSignal {
  // Not request.signal: that one aborts as soon as the body of a POST was read.
  const controller = new AbortController();
  const onClose = () => {
    if (!reply.raw.writableFinished) controller.abort();
  };
  // It may be gone already: a job was stored meanwhile, or read.
  if (reply.raw.closed) onClose();
  else reply.raw.once('close', onClose);
  return controller.signal;
}

/** Ends a request whose caller has gone: nothing is sent to nobody. */
export function sendNobody(reply: FastifyReply): FastifyReply {
  return reply.hijack();
}

/** Makes a URI fit for a header, whatever a handler or a target named. */
export function headerSafe(uri: string): string {
  return uri.toWellFormed().replaceAll(/[^\x21-\x7e]+/g, encodeURIComponent);
}

/** Whether a URI is a path of this server: `//host` and `/\host` are not, to a browser. */
export function isOwnPath(uri: string): boolean {
  return /^\/(?![/\\])/.test(uri);
}

/** The value of a header; several lines of it come joined. */
export function headerOf(request: FastifyRequest, name: string): string | undefined {
  return request.headers[name] as string | undefined;
}
