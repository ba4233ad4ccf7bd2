// The job as a caller sees it: the record and the status, made from the facts the database states.
// Invariant: members are the columns' names; `terminal` stands beside every state, so new states can be added.
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
  created_uri: string | null;
  has_result: boolean;
}

/** What is recorded of a failure. */
type Failure = Pick<NamedFacts, 'class' | 'source' | 'http_status' | 'error'>;

/** The error a job ended with or its last attempt failed with; null when there is none. */
export function errorOf(facts: Failure): JobError | null {
  if (facts.class === null || facts.source === null) return null;
  return { class: facts.class, source: facts.source, detail: facts.error, http_status: facts.http_status };
}

/** The body of `GET /v1/jobs/{id}`, but for the progress, which is JSON text already. */
export function recordOf(facts: NamedFacts) {
  return {
    id: facts.id,
    queue: facts.queue,
    type: facts.type,
    state: facts.state,
    terminal: isTerminal(facts.state),
    cancel_requested: facts.cancel_requested,
    priority: facts.priority,
    attempt: facts.attempt,
    max_attempts: facts.max_attempts,
    epoch: facts.epoch,
    timeout_seconds: facts.timeout_seconds,
    created_at: facts.created_at.toISOString(),
    run_at: (facts.next_at ?? facts.run_at ?? facts.created_at).toISOString(),
    expires_at: facts.expires_at?.toISOString() ?? null,
    started_at: facts.started_at?.toISOString() ?? null,
    finished_at: facts.finished_at?.toISOString() ?? null,
    wait_ms: msBetween(facts.run_at ?? facts.created_at, facts.started_at),
    run_ms: msBetween(facts.started_at, facts.finished_at),
    worker: facts.worker,
    tags: facts.tags ?? [],
    ...endOf(facts),
    ...(facts.options === null ? {} : shownOptions(facts.options)),
  };
}

/** Header values of targets are secrets more often than not: only their names are shown. */
function shownOptions({
  target,
  callback,
  schedule,
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
    ...(schedule === undefined ? {} : { schedule }),
    ...(retry_of === undefined ? {} : { retry_of }),
    ...(callback_of === undefined ? {} : { callback_of }),
    ...(traceparent === undefined ? {} : { traceparent }),
    ...(content_type === undefined ? {} : { content_type }),
  };
}

function names({ headers }: { readonly headers?: Readonly<Record<string, string>> | undefined }) {
  return { headers: Object.keys(headers ?? {}) };
}

/** The body of `GET /v1/jobs/{id}/status`, but for the progress. */
export function statusOf(facts: NamedFacts) {
  return {
    id: facts.id,
    state: facts.state,
    terminal: isTerminal(facts.state),
    attempt: facts.attempt,
    cancel_requested: facts.cancel_requested,
    ...endOf(facts),
  };
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
  const error = errorOf(facts);
  if (error === null) return null;
  return { type: '/problems/job-failed', code: 'job-failed', status: failureStatus(error), ...error };
}

function endOf(facts: NamedFacts) {
  return {
    result: facts.has_result ? `/v1/jobs/${facts.id}/result` : null,
    created: facts.created_uri,
    error: errorBody(facts),
  };
}

/** How long from one moment to another, null while one of them is not there; clocks that differ never make it negative. */
export function msBetween(from: Date | null, to: Date | null): number | null {
  return from === null || to === null ? null : Math.max(0, to.getTime() - from.getTime());
}
