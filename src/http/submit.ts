// POST /v1/jobs from the validated body to the answer: 202 at once, or the outcome of the job in the same call.
// Invariants: what can be refused is refused before anything is stored; the answer to a job that was there already comes
// from its present state, under this request's own headers.
// Next room: actions/submit.ts stores it; waiting.ts holds the callers who want the outcome.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Actions } from '../actions/actions.ts';
import type { Submission, Submitted } from '../actions/submit.ts';
import { type AnswerMode, refusedMode } from '../domain/expectation.ts';
import { fingerprint, parseIdempotencyKey } from '../domain/idempotency.ts';
import { Problem } from '../domain/problem.ts';
import type { NamedFacts } from '../domain/record.ts';
import { existing, hasRoom, headerOf, sendAccepted, statusPath } from './answer.ts';
import { bodyFaults, type HeaderSchema, type Route, refusals, storeFaults } from './route.ts';
import { Job, JsonValue, NewJob } from './schemas/job.ts';
import { answerAfterWait } from './waiting.ts';

const route = 'POST /v1/jobs';

/** `POST /v1/jobs` (docs/contract.md, Modes and Outcomes). */
export function submitJob(actions: Actions): Route<{ Body: NewJob }> {
  return {
    config: { negotiates: true, headers: ['Expect', 'Errand-Expect', 'Prefer', 'Idempotency-Key'] },
    schema: {
      operationId: 'submitJob',
      summary: 'Submit a job',
      description:
        'Answers 202 once the job is stored. With an expectation it answers the outcome of the job, or 417; with ' +
        '`Prefer: wait=N` the outcome if there is one in time, else 202.',
      tags: ['jobs'],
      body: NewJob,
      response: responses,
    },
    handler: (request, reply) => submit(actions, request, reply),
  };
}

async function submit(
  actions: Actions,
  request: FastifyRequest<{ Body: NewJob }>,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const began = performance.now();
  const { body, answerMode: mode } = request;
  const submission = submissionOf(request);
  refuseImpossible(body, mode);
  const place = placeFor(actions, mode);
  const submitted = await actions.submit(submission).finally(() => place?.leave());
  const { id, replayed } = submitted;
  if (replayed) reply.header('idempotency-replayed', 'true');
  reply.header('link', `<${statusPath(id)}>; rel="status"`);
  if (mode.kind === 'async') return sendAccepted(reply, mode, await factsOf(actions, submission, submitted));
  reply.header('errand-job-id', id);
  if (place === null) return sendAccepted(reply, mode, await factsOf(actions, submission, submitted));
  return answerAfterWait(actions, reply, {
    id,
    mode,
    began,
    isOurs: !replayed,
    hasKey: submission.idempotency !== null,
    cancelsRunning: body.on_timeout === 'cancel',
  });
}

function submissionOf(request: FastifyRequest<{ Body: NewJob }>): Submission {
  const { body } = request;
  return {
    queue: body.queue,
    type: body.type,
    priority: body.priority,
    max_attempts: body.max_attempts,
    timeout_seconds: body.timeout_seconds,
    payload: body.payload?.text ?? 'null',
    run_at: momentOf(body.run_at),
    delay_ms: body.delay_seconds ? Math.round(body.delay_seconds * 1_000) : null,
    expires_at: momentOf(body.expires_at),
    backoff: body.backoff === undefined ? null : JSON.stringify(body.backoff),
    tags: body.tags === undefined || body.tags.length === 0 ? null : body.tags,
    options: null,
    idempotency: idempotencyOf(request),
  };
}

// Postgres knows fewer offsets than RFC 3339 allows, so every moment goes there in UTC.
function momentOf(text: string | null | undefined): string | null {
  return text == null ? null : new Date(text).toISOString();
}

function idempotencyOf(request: FastifyRequest): Submission['idempotency'] {
  const key = parseIdempotencyKey(headerOf(request, 'idempotency-key'));
  if (key === null) return null;
  const mediaType = request.headers['content-type'] ?? '';
  return { tenant: 0, route, key, print: fingerprint(route, mediaType, request.rawBody) };
}

function refuseImpossible(body: NewJob, mode: AnswerMode): void {
  if (mode.kind !== 'sync') return;
  const { run_at, delay_seconds = 0 } = body;
  const due = run_at === undefined ? delay_seconds : (Date.parse(run_at) - Date.now()) / 1_000;
  if (due <= mode.wait_seconds) return;
  throw new Problem('expectation-impossible', {
    detail: `the job is due in ${Math.ceil(due)} s, after the wait of ${mode.wait_seconds} s; take a 202 and follow its Location`,
    headers: { 'errand-mode': refusedMode },
    extra: { reason: 'run_at_beyond_wait' },
  });
}

// A demand needs a place to wait before anything is stored; a wish goes without and gets its 202 at once.
function placeFor({ waiters }: Actions, mode: AnswerMode): { leave(): void } | null {
  if (mode.kind === 'async' || (mode.kind === 'soft' && !hasRoom(waiters))) return null;
  return waiters.reserve();
}

async function factsOf(
  { inspect }: Actions,
  submission: Submission,
  submitted: Submitted,
): Promise<NamedFacts> {
  if (submitted.replayed) return existing(inspect, submitted.id);
  const { id, state, created_at, run_at } = submitted;
  const { queue, type, priority, max_attempts, timeout_seconds, expires_at, tags } = submission;
  return {
    id,
    queue,
    type,
    state,
    priority,
    attempt: 0,
    max_attempts,
    epoch: 0,
    timeout_seconds,
    created_at,
    run_at,
    expires_at: expires_at === null ? null : new Date(expires_at),
    started_at: null,
    finished_at: null,
    next_at: null,
    backoff: null,
    tags: tags as string[] | null,
    options: submission.options as NamedFacts['options'],
    patches: null,
    progress: null,
    progress_seq: null,
    worker: null,
    cancel_requested: false,
    class: null,
    source: null,
    http_status: null,
    error: null,
    created_uri: null,
    has_result: false,
  };
}

const text = (description: string): HeaderSchema => ({ type: 'string', description });

const understood = {
  'Errand-Mode': text('How the request was understood.'),
  'Idempotency-Replayed': text('`true` where the key named a job that was there already.'),
  'Preference-Applied': text('The wishes that were honoured.'),
  Link: text('`rel="status"`: the status of the job.'),
  'Errand-Job-Id': text('The id of the job, after a wait.'),
};

const outcome = { ...understood, 'Content-Location': text('What the body represents.') };

const refused = refusals(
  ...bodyFaults,
  ...storeFaults,
  'idempotency-key-malformed',
  'idempotency-key-reused',
  'idempotency-in-flight',
  'job-archived',
  'job-cancelled',
  'job-failed',
  'job-expired',
  'expectation-timeout',
  'sync-capacity',
  'outcome-unknown',
);

const responses: Route['schema']['response'] = {
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
    headers: {
      ...understood,
      Location: text('The status of the job, to be followed.'),
      'Content-Location': text('The record of the job, which the body represents.'),
      ETag: text('The present state of the job.'),
      'Retry-After': { type: 'integer', description: 'Seconds after which to ask for the status.' },
    },
    content: { 'application/json': { schema: Job } },
  },
  204: { description: 'The job succeeded within the wait and left no content.', headers: outcome },
  ...Object.fromEntries(
    Object.entries(refused).map(([status, doc]) => [
      status,
      {
        ...doc,
        headers: { ...doc.headers, ...understood, Location: text('The status of a job that goes on.') },
      },
    ]),
  ),
};
