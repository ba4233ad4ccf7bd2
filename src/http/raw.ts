// POST /v1/queues/{queue}/jobs: the body is the payload, whatever it is, and the options are headers; for producers that
// cannot wrap what they send, and for bytes that are no JSON.
// Invariants: the payload is kept byte for byte with its media type; what is declared as JSON is JSON; modes and answers are
// those of POST /v1/jobs.
// Next room: submit.ts, which stores and answers.
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Actions } from '../actions/actions.ts';
import type { AskedOptions, Submission } from '../actions/submit.ts';
import { fingerprint, parseIdempotencyKey, requestKey } from '../domain/idempotency.ts';
import { parseValue } from '../domain/json.ts';
import { payloadOf } from '../domain/payload.ts';
import { Problem, type ProblemFault } from '../domain/problem.ts';
import { headerOf } from './answer.ts';
import { bytesOf } from './body.ts';
import type { RequestHeader, Route } from './route.ts';
import { NewJob } from './schemas/new-job.ts';
import { name } from './schemas/scalars.ts';
import { submissionOf, type Terms, traceOf } from './submission.ts';
import { submitAndAnswer, submitHeaders, submitResponses } from './submit.ts';
import { remedy, sentTwice } from './validate.ts';

const route = 'POST /v1/queues/{queue}/jobs';

/** The options of a job as headers: which member of NewJob each one is. */
const optionHeaders = {
  'Errand-Type': 'type',
  'Errand-Priority': 'priority',
  'Errand-Run-At': 'run_at',
  'Errand-Delay': 'delay_seconds',
  'Errand-Expires-At': 'expires_at',
  'Errand-Max-Attempts': 'max_attempts',
  'Errand-Timeout': 'timeout_seconds',
  'Errand-Max-Age': 'max_age_seconds',
  'Errand-Tags': 'tags',
  'Errand-Target': 'target',
  'Errand-Callback': 'callback',
  'Errand-Unique-Key': 'unique',
  'Errand-On-Conflict': 'unique',
} as const satisfies Partial<Record<RequestHeader, keyof NewJob>>;

type OptionHeader = keyof typeof optionHeaders;

const QueueParams = z.object({ queue: name.describe('The queue the job goes to.') });

/** `POST /v1/queues/{queue}/jobs` (docs/contract.md, Raw payloads). */
export function submitRaw(
  actions: Actions,
  terms: Terms,
): Route<{ Params: { queue: string }; Body: Buffer | null }> {
  return {
    config: {
      negotiates: 'all',
      headers: [...submitHeaders, ...(Object.keys(optionHeaders) as OptionHeader[])],
    },
    schema: {
      operationId: 'submitRaw',
      summary: 'Submit a body as a job',
      description: 'The body is the payload, byte for byte, of any media type; an empty one is null.',
      tags: ['jobs'],
      params: QueueParams,
      consumes: ['*/*'],
      body: z.unknown().meta({ description: 'The payload.' }),
      response: submitResponses('not-found'),
    },
    check: (body) => body,
    async handler(request, reply) {
      const job = optionsIn(request);
      const { text, ...kept } = payloadOf(request.body ?? empty, mediaTypeOf(request));
      if (request.body?.length && kept.content_type === undefined) parseValue(request.body, deepest);
      const submission = submissionOf(
        { ...job, payload: { text } },
        { idempotency: idempotencyOf(request), options: asideOf(request, kept) },
        terms,
      );
      const now = request.server.now();
      const mode = await actions.accept({ submission, mode: request.answerMode, now, pointer: null });
      return submitAndAnswer(actions, reply, { submission, mode, cancelsRunning: false });
    },
  };
}

const empty = Buffer.alloc(0);
const deepest = 64;
const mostBytesOfType = 255;

function mediaTypeOf(request: FastifyRequest): string | null {
  const type = headerOf(request, 'content-type');
  if (type === undefined || type.trim() === '') return null;
  if (type.length > mostBytesOfType || !/^[\x20-\x7e]+$/.test(type)) {
    throw new Problem('bad-header', {
      detail: `the content-type is longer than ${mostBytesOfType} characters or not ASCII; shorten it`,
    });
  }
  return type;
}

/** The options in the headers; a value that cannot be used is 400, because a header is to blame. */
function optionsIn(request: FastifyRequest<{ Params: { queue: string } }>): NewJob {
  const given: Record<string, unknown> = { queue: request.params.queue, type: 'default' };
  for (const [header, member] of Object.entries(optionHeaders)) {
    const value = headerOf(request, header.toLowerCase());
    if (value === undefined) continue;
    const isList = member === 'tags';
    const count = request.raw.headersDistinct[header.toLowerCase()]?.length ?? 1;
    if (count > 1 && !isList) throw badHeader([faultOf(header, 'duplicate', sentTwice)]);
    given[member] = memberOf(member, value.trim());
  }
  const conflict = headerOf(request, 'errand-on-conflict')?.trim();
  const key = headerOf(request, 'errand-unique-key')?.trim();
  // Clients differ in how they send other characters, and the key of two that differ must not.
  if (key !== undefined && /[^\x20-\x7e]/.test(key)) {
    const what = 'holds characters beyond ASCII, which headers do not carry safely; send the job as JSON';
    throw badHeader([faultOf('Errand-Unique-Key', 'not_ascii', what)]);
  }
  if (conflict !== undefined) given.unique = { ...(key === undefined ? {} : { key }), on_conflict: conflict };
  const parsed = NewJob.safeParse(given, { error: remedy });
  if (parsed.success) return parsed.data;
  throw badHeader(
    parsed.error.issues.map(({ path, code, message }) => faultOf(headerFor(path), code, message)),
  );
}

function faultOf(header: string, code: string, what: string): ProblemFault {
  return { pointer: `#/${header}`, code, detail: `header ${header} ${what}` };
}

function badHeader(errors: readonly ProblemFault[]): Problem {
  return new Problem('bad-header', { detail: (errors[0] as ProblemFault).detail, errors });
}

function memberOf(member: keyof NewJob, text: string): unknown {
  switch (member) {
    case 'priority':
    case 'delay_seconds':
    case 'max_attempts':
    case 'timeout_seconds':
    case 'max_age_seconds':
      return /^\d+(\.\d+)?$/.test(text) ? Number(text) : text;
    case 'tags':
      return text.split(',').map((tag) => tag.trim());
    case 'target':
    case 'callback':
      return { url: text };
    case 'unique':
      return { key: text };
    default:
      return text;
  }
}

function headerFor([first, inner]: readonly PropertyKey[]): string {
  const member = String(first);
  if (inner === 'on_conflict') return 'Errand-On-Conflict';
  return Object.entries(optionHeaders).find(([, known]) => known === member)?.[0] ?? member;
}

function asideOf(request: FastifyRequest, kept: AskedOptions): AskedOptions | null {
  const all = { ...traceOf(request), ...kept };
  return Object.keys(all).length === 0 ? null : all;
}

/** A repeat is the same request when path, option headers, media type and body are the same. */
function idempotencyOf(request: FastifyRequest): Submission['idempotency'] {
  const key = parseIdempotencyKey(headerOf(request, 'idempotency-key'));
  if (key === null) return null;
  const options = Object.keys(optionHeaders).map((header) => headerOf(request, header.toLowerCase()) ?? '');
  const asked = JSON.stringify([route, request.params, options]);
  const mediaType = request.headers['content-type'] ?? '';
  return requestKey(key, fingerprint(asked, mediaType, bytesOf(request)));
}
