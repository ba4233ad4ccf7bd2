// The job as a caller sees it: the record and the status, made from the facts the database states.
// Invariants: members are the columns' names; `terminal` stands beside every state, so new states can be added; names and ids
// hold nothing that JSON escapes, every other text is escaped here.
// Next room: http/answer.ts and http/status.ts.
import { isTerminal, type JobState } from './job.ts';
import type { JobOptions } from './options.ts';
import { type ErrorClass, type ErrorSource, failureStatus, type JobError } from './outcome.ts';

/** What the database says of a job, with the names of its lane and worker. */
export interface NamedFacts {
  id: string;
  queue: string;
  type: string;
  state: JobState;
  priority: number;
  attempt: number;
  max_attempts: number;
  epoch: number;
  timeout_seconds: number;
  created_at: Date;
  run_at: Date | null;
  expires_at: Date | null;
  started_at: Date | null;
  finished_at: Date | null;
  next_at: Date | null;
  backoff: unknown;
  tags: string[] | null;
  options: JobOptions | null;
  patches: number | null;
  progress: string | null;
  progress_seq: number | null;
  worker: string | null;
  cancel_requested: boolean;
  class: ErrorClass | null;
  source: ErrorSource | null;
  http_status: number | null;
  error: string | null;
  fingerprint: string | null;
  created_uri: string | null;
  has_result: boolean;
}

/** What is recorded of a failure. */
type Failure = Pick<NamedFacts, 'class' | 'source' | 'http_status' | 'error' | 'fingerprint'>;

/** The error a job ended with or its last attempt failed with; null when there is none. */
export function errorOf(facts: Failure): JobError | null {
  if (facts.class === null || facts.source === null) return null;
  const { class: kind, source, error: detail, http_status, fingerprint } = facts;
  return { class: kind, source, detail, http_status, ...(fingerprint === null ? {} : { fingerprint }) };
}

/** The body of `GET /v1/jobs/{id}`, as JSON text: most submits are answered with one, and a template is half the price. */
export function recordText(facts: NamedFacts): string {
  const { id, queue, type, state, created_at, run_at, started_at, finished_at } = facts;
  const tags = facts.tags === null ? '[]' : JSON.stringify(facts.tags);
  return (
    `{"id":"${id}","queue":"${queue}","type":"${type}","state":"${state}","terminal":${isTerminal(state)},` +
    `"cancel_requested":${facts.cancel_requested},"priority":${facts.priority},"attempt":${facts.attempt},` +
    `"max_attempts":${facts.max_attempts},"epoch":${facts.epoch},"timeout_seconds":${facts.timeout_seconds},` +
    `"created_at":${timeText(created_at)},"run_at":${timeText(facts.next_at ?? run_at ?? created_at)},` +
    `"expires_at":${timeText(facts.expires_at)},"started_at":${timeText(started_at)},` +
    `"finished_at":${timeText(finished_at)},"wait_ms":${msBetween(run_at ?? created_at, started_at)},` +
    `"run_ms":${msBetween(started_at, finished_at)},"worker":${quoted(facts.worker)},"tags":${tags},` +
    `${endText(facts)}${backoffText(facts.backoff)}${optionsText(facts.options)},"progress":${facts.progress ?? 'null'}}`
  );
}

/** The body of `GET /v1/jobs/{id}/status`, likewise. */
export function statusText(facts: NamedFacts): string {
  return (
    `{"id":"${facts.id}","state":"${facts.state}","terminal":${isTerminal(facts.state)},"attempt":${facts.attempt},` +
    `"cancel_requested":${facts.cancel_requested},${endText(facts)},"progress":${facts.progress ?? 'null'}}`
  );
}

function endText(facts: NamedFacts): string {
  const result = facts.has_result ? `"/v1/jobs/${facts.id}/result"` : 'null';
  return `"result":${result},"created":${quoted(facts.created_uri)},"error":${JSON.stringify(errorBody(facts))}`;
}

function quoted(text: string | null): string {
  return text === null ? 'null' : JSON.stringify(text);
}

// Jobs of one flush share their moment, and every job is due at one of its own: a time is often written twice.
let lastTime: Date | null = null;
let lastTimeText = 'null';

function timeText(time: Date | null): string {
  if (time === null) return 'null';
  if (time !== lastTime) {
    lastTimeText = `"${time.toISOString()}"`;
    lastTime = time;
  }
  return lastTimeText;
}

function backoffText(backoff: unknown): string {
  return backoff === null ? '' : `,"backoff":${JSON.stringify(backoff)}`;
}

function optionsText(options: JobOptions | null): string {
  const text = options === null ? '{}' : JSON.stringify(shownOptions(options));
  return text === '{}' ? '' : `,${text.slice(1, -1)}`;
}

/** Header values of targets are secrets more often than not: only their names are shown. */
function shownOptions({
  target,
  callback,
  unique,
  blocked_by,
  blocked_reason,
  schedule,
  max_age_seconds,
  retry_of,
  callback_of,
  traceparent,
  content_type,
}: JobOptions) {
  return {
    ...(target === undefined ? {} : { target: { url: target.url, method: target.method, ...names(target) } }),
    ...(callback === undefined
      ? {}
      : { callback: { url: callback.url, events: callback.events, ...names(callback) } }),
    ...(unique === undefined ? {} : { unique }),
    ...(blocked_by === undefined ? {} : { blocked_by, blocked_reason }),
    ...(schedule === undefined ? {} : { schedule }),
    ...(max_age_seconds === undefined ? {} : { max_age_seconds }),
    ...(retry_of === undefined ? {} : { retry_of }),
    ...(callback_of === undefined ? {} : { callback_of }),
    ...(traceparent === undefined ? {} : { traceparent }),
    ...(content_type === undefined ? {} : { content_type }),
  };
}

function names({ headers }: { readonly headers?: Readonly<Record<string, string>> | undefined }) {
  return { headers: Object.keys(headers ?? {}) };
}

/** The error as it is told; null where there is none. */
export function errorBody(facts: Failure & { state: JobState }) {
  if (facts.state === 'expired') {
    return {
      type: '/problems/job-expired',
      code: 'job-expired',
      status: 504,
      class: null,
      source: 'errand',
      detail: facts.error,
    };
  }
  if (facts.state === 'cancelled' && facts.class === null && facts.error !== null) {
    return {
      type: '/problems/job-cancelled',
      code: 'job-cancelled',
      status: 409,
      class: null,
      source: 'errand',
      detail: facts.error,
    };
  }
  const error = errorOf(facts);
  if (error === null) return null;
  return { type: '/problems/job-failed', code: 'job-failed', status: failureStatus(error), ...error };
}

/** How long from one moment to another, null while one of them is not there; clocks that differ never make it negative. */
export function msBetween(from: Date | null, to: Date | null): number | null {
  return from === null || to === null ? null : Math.max(0, to.getTime() - from.getTime());
}
