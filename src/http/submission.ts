// From what a caller sent to what is stored: the one way for every route that submits.
// Invariants: what can be refused is refused here, before anything is stored; a target that may not be reached is never
// kept.
// Next room: actions/submit.ts; submit.ts, batch.ts and raw.ts, which answer.
import type { FastifyRequest } from 'fastify';
import type { AskedOptions, Submission, Submitted } from '../actions/submit.ts';
import { type AddressPolicy, checkTargetUrl } from '../domain/address.ts';
import type { RawJson } from '../domain/json.ts';
import { type PolicyAsk, type PolicyOf, policyFor, withAge } from '../domain/policy.ts';
import { Problem, type ProblemFault } from '../domain/problem.ts';
import type { NamedFacts } from '../domain/record.ts';
import { headerOf } from './answer.ts';
import type { NewJob } from './schemas/new-job.ts';

/** What a submit says outside its envelope. */
export interface Aside {
  idempotency: Submission['idempotency'];
  /** Options that come with the request: trace context, the media type of a raw payload. */
  options: AskedOptions | null;
}

/** What the server lets a job do, and what it is given that it does not say. */
export interface Terms {
  reach: AddressPolicy;
  policyOf: PolicyOf;
}

/** Makes the submission of a job that was validated; throws `validation-failed` for a target that may not be reached. */
export function submissionOf(
  job: Omit<NewJob, 'payload'> & { payload?: Pick<RawJson, 'text'> | undefined },
  { idempotency, options }: Aside,
  { reach, policyOf }: Terms,
  at = '#',
): Submission {
  const policy = policyFor(askOf(job), policyOf(job.queue, job.type));
  return {
    queue: job.queue,
    type: job.type,
    priority: job.priority,
    max_attempts: policy.max_attempts,
    timeout_seconds: policy.timeout_seconds,
    payload: job.payload?.text ?? 'null',
    run_at: job.run_at ?? null,
    delay_ms: job.delay_seconds ? Math.round(job.delay_seconds * 1_000) : null,
    expires_at: job.expires_at ?? null,
    backoff: policy.backoff,
    tags: job.tags === undefined || job.tags.length === 0 ? null : job.tags,
    options: withAge(optionsOf(job, options, reach, at), policy),
    idempotency,
  };
}

/** What a job says of how it is to be tried. */
function askOf(
  job: Pick<NewJob, 'max_attempts' | 'timeout_seconds' | 'backoff' | 'max_age_seconds'>,
): PolicyAsk {
  return {
    max_attempts: job.max_attempts ?? null,
    timeout_seconds: job.timeout_seconds ?? null,
    backoff: job.backoff === undefined ? null : JSON.stringify(job.backoff),
    max_age_seconds: job.max_age_seconds ?? null,
  };
}

/** The trace context of a request, or null where there is none that is valid (W3C Trace Context, section 3.2). */
export function traceOf(request: FastifyRequest): AskedOptions | null {
  const traceparent = headerOf(request, 'traceparent');
  if (traceparent === undefined || !tracePattern.test(traceparent)) return null;
  const tracestate = headerOf(request, 'tracestate');
  const keeps = tracestate !== undefined && statePattern.test(tracestate);
  return { traceparent, ...(keeps ? { tracestate } : {}) };
}

const tracePattern = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;
const statePattern = /^[\x20-\x7e]{1,512}$/;

/** The facts of a job that has just been stored, or would be: what the database would say of it. */
export function factsOfNew(
  submission: Submission,
  {
    id,
    state,
    created_at,
    run_at,
    blocked_by,
  }: Pick<Submitted & { replayed: false }, 'id' | 'state' | 'created_at' | 'run_at' | 'blocked_by'>,
): NamedFacts {
  const { queue, type, priority, max_attempts, timeout_seconds, expires_at, tags, options } = submission;
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
    backoff: submission.backoff === null ? null : JSON.parse(submission.backoff),
    tags: tags as string[] | null,
    options: waiting(options as NamedFacts['options'], blocked_by),
    patches: null,
    progress: null,
    progress_seq: null,
    worker: null,
    cancel_requested: false,
    class: null,
    source: null,
    http_status: null,
    error: null,
    fingerprint: null,
    created_uri: null,
    has_result: false,
  };
}

function waiting(options: NamedFacts['options'], blocked_by: string | undefined): NamedFacts['options'] {
  return blocked_by === undefined ? options : { ...options, blocked_by, blocked_reason: 'rerun' };
}

function optionsOf(
  { target, callback, unique }: Pick<NewJob, 'target' | 'callback' | 'unique'>,
  aside: AskedOptions | null,
  reach: AddressPolicy,
  at: string,
): AskedOptions | null {
  if (target === undefined && callback === undefined && unique === undefined) return aside;
  return {
    ...aside,
    ...(unique === undefined ? {} : { unique }),
    ...(target === undefined
      ? {}
      : { target: { ...target, url: reachable(target.url, reach, `${at}/target/url`) } }),
    ...(callback === undefined
      ? {}
      : { callback: { ...callback, url: reachable(callback.url, reach, `${at}/callback/url`) } }),
  };
}

function reachable(url: string, reach: AddressPolicy, pointer: string): string {
  const checked = checkTargetUrl(url, reach);
  if (checked.kind === 'ok') return checked.url;
  const fault: ProblemFault = { pointer, code: checked.code, detail: checked.detail };
  throw new Problem('validation-failed', { detail: `${pointer} ${checked.detail}`, errors: [fault] });
}
