// POST /v1/jobs from the validated body to the answer: 202 at once, or the outcome of the job in the same call.
// Invariants: what can be refused is refused before anything is stored; the answer to a job that was there already comes
// from its present state, under this request's own headers.
// Next room: actions/submit.ts stores it; waiting.ts holds the callers who want the outcome.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Actions } from '../actions/actions.ts';
import type { Submission, Submitted } from '../actions/submit.ts';
import type { AnswerMode } from '../domain/expectation.ts';
import { fingerprint, parseIdempotencyKey, requestKey } from '../domain/idempotency.ts';
import type { ProblemSlug } from '../domain/problems.ts';
import type { NamedFacts } from '../domain/record.ts';
import { existing, hasRoom, headerOf, sendAccepted, statusPath, storedHeaders } from './answer.ts';
import { bytesOf } from './body.ts';
import { bodyFaults, type HeaderSchema, type Route, refusals, storeFaults, withHeaders } from './route.ts';
import { Job } from './schemas/job.ts';
import { NewJob, usualJob } from './schemas/new-job.ts';
import { JsonValue } from './schemas/scalars.ts';
import { factsOfNew, submissionOf, type Terms, traceOf } from './submission.ts';
import { answerAfterWait } from './waiting.ts';

const route = 'POST /v1/jobs';

/** The request headers every submit reads. */
export const submitHeaders = [
  'Expect',
  'Errand-Expect',
  'Prefer',
  'Idempotency-Key',
  'traceparent',
  'tracestate',
] as const;

/** `POST /v1/jobs` (docs/contract.md, Modes and Outcomes). */
export function submitJob(actions: Actions, terms: Terms): Route<{ Body: NewJob }> {
  return {
    config: { negotiates: 'all', headers: submitHeaders },
    schema: {
      operationId: 'submitJob',
      summary: 'Submit a job',
      description:
        'Answers 202 once the job is stored. With an expectation it answers the outcome of the job, or 417; with ' +
        '`Prefer: wait=N` the outcome if there is one in time, else 202.',
      tags: ['jobs'],
      body: NewJob,
      response: submitResponses(),
    },
    usual: usualJob,
    handler: (request, reply) => submit(actions, terms, request, reply),
  };
}

function submit(
  actions: Actions,
  terms: Terms,
  request: FastifyRequest<{ Body: NewJob }>,
  reply: FastifyReply,
): Promise<FastifyReply | undefined> {
  const { body, answerMode: mode } = request;
  const aside = { idempotency: idempotencyOf(request), options: traceOf(request) };
  const submission = submissionOf(body, aside, terms);
  const cancelsRunning = body.on_timeout === 'cancel';
  const accepted = actions.accept({ submission, mode, now: request.server.now(), pointer: '#/queue' });
  // Every await costs each submit; the usual one is accepted at once.
  return accepted instanceof Promise
    ? accepted.then((mode) => submitAndAnswer(actions, reply, { submission, mode, cancelsRunning }))
    : submitAndAnswer(actions, reply, { submission, mode: accepted, cancelsRunning });
}

/** A job to store, and how its caller wants to be answered. */
export interface Submitting {
  submission: Submission;
  mode: AnswerMode;
  cancelsRunning: boolean;
}

/** Stores a job and answers as the mode says. */
export async function submitAndAnswer(
  actions: Actions,
  reply: FastifyReply,
  { submission, mode, cancelsRunning }: Submitting,
): Promise<FastifyReply | undefined> {
  const began = performance.now();
  // Its queue may have changed what the headers alone said.
  reply.header('errand-mode', mode.errandMode);
  const place = placeFor(actions, mode);
  const storing = actions.submit(submission);
  const submitted = await (place === null ? storing : storing.finally(() => place.leave()));
  const { id, replayed } = submitted;
  if (submitted.replayed) reply.header(replayHeader(submitted), 'true');
  reply.header('link', `<${statusPath(id)}>; rel="status"`);
  if (mode.kind !== 'async') reply.header('errand-job-id', id);
  if (mode.kind !== 'async' && place !== null) {
    const hasKey = submission.idempotency !== null;
    return answerAfterWait(actions, reply, { id, mode, began, isOurs: !replayed, hasKey, cancelsRunning });
  }
  const facts = replayed ? await existing(actions.inspect, id) : factsOfNew(submission, submitted);
  sendAccepted(reply, mode, facts);
  // Not the reply: it is thenable, so a promise that resolves with it takes a detour through its end.
  return undefined;
}

/** Why a job that was there already is the answer. */
export function replayHeader({ deduplicated }: Submitted & { replayed: true }): string {
  return deduplicated ? 'errand-deduplicated' : 'idempotency-replayed';
}

/** What is known of a job that was submitted, without asking the database for one that is new. */
export async function factsOf(
  { inspect }: Actions,
  submission: Submission,
  submitted: Submitted,
): Promise<NamedFacts> {
  return submitted.replayed ? existing(inspect, submitted.id) : factsOfNew(submission, submitted);
}

/** The key of a submit, with the fingerprint of its request. */
export function idempotencyOf(request: FastifyRequest): Submission['idempotency'] {
  const key = parseIdempotencyKey(headerOf(request, 'idempotency-key'));
  if (key === null) return null;
  const mediaType = request.headers['content-type'] ?? '';
  return requestKey(key, fingerprint(route, mediaType, bytesOf(request)));
}

// A demand needs a place to wait before anything is stored; a wish goes without and gets its 202 at once.
function placeFor({ waiters }: Actions, mode: AnswerMode): { leave(): void } | null {
  if (mode.kind === 'async' || (mode.kind === 'soft' && !hasRoom(waiters))) return null;
  return waiters.reserve();
}

const text = (description: string): HeaderSchema => ({ type: 'string', description });

const understood = {
  'Errand-Mode': text('How the request was understood.'),
  'Idempotency-Replayed': storedHeaders['Idempotency-Replayed'],
  'Errand-Deduplicated': storedHeaders['Errand-Deduplicated'],
  'Preference-Applied': text('The wishes that were honoured.'),
  Link: text('`rel="status"`: the status of the job.'),
  'Errand-Job-Id': text('The id of the job, after a wait.'),
};

const outcome = { ...understood, 'Content-Location': text('What the body represents.') };

const submitFaults: readonly ProblemSlug[] = [
  ...bodyFaults,
  ...storeFaults,
  'idempotency-key-missing',
  'idempotency-key-malformed',
  'idempotency-key-reused',
  'idempotency-in-flight',
  'job-not-unique',
  'queue-draining',
  'job-archived',
  'job-cancelled',
  'job-failed',
  'job-expired',
  'expectation-timeout',
  'sync-capacity',
  'outcome-unknown',
];

/** What a submit may answer; `more` problems where the route has them. */
export function submitResponses(...more: readonly ProblemSlug[]): Route['schema']['response'] {
  const location = text('The status of a job that goes on.');
  return {
    ...answers,
    ...withHeaders(refusals(...submitFaults, ...more), { ...understood, Location: location }),
  };
}

const answers: Route['schema']['response'] = {
  200: {
    description: 'The job succeeded within the wait: its result, or its record where it has none.',
    headers: { ...outcome, ETag: text('The state of the job, with its record.') },
    content: { 'application/json': { schema: JsonValue } },
  },
  201: {
    description:
      'The job succeeded within the wait; the body is its result, or its record where it has none.',
    headers: {
      ...outcome,
      Location: text('What there is now.'),
      ETag: text('The state of the job, with its record.'),
    },
    content: { 'application/json': { schema: JsonValue } },
  },
  202: {
    description: 'Stored. The body is empty with `Prefer: return=minimal`.',
    headers: { ...understood, ...storedHeaders },
    content: { 'application/json': { schema: Job } },
  },
  204: { description: 'The job succeeded within the wait and left no content.', headers: outcome },
};
