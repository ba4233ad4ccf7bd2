// What the end of a job means: to the caller who waited for it, and to the job itself after a failed attempt.
// Guards: a success is never turned into a refusal, because that would invite a second run of finished work; a
// dead job answers as `job-failed`, so it cannot be mistaken for a fault of the request.
// Next room: http/waiting.ts answers with it; roles/worker/run.ts, actions/pull.ts and actions/chores.ts record it.

import { type BackoffPolicy, backoffDelayMs } from './backoff.ts';
import type { SyncExpectation } from './expectation.ts';
import { isTerminal, type JobState, type TerminalState } from './job.ts';
import type { JobOptions } from './options.ts';
import { Problem } from './problem.ts';

/** Why an attempt failed (docs/contract.md, Outcomes). */
export const errorClasses = ['retryable', 'permanent', 'poison', 'rate_limited', 'timeout', 'lost'] as const;

/** The class of a failed attempt. */
export type ErrorClass = (typeof errorClasses)[number];

/** How the work of a start went, before it is decided what that means to the job. */
export type Verdict =
  | { readonly kind: 'succeeded'; readonly result: string | null; readonly created_uri: string | null }
  | {
      readonly kind: 'failed';
      readonly class: ErrorClass;
      readonly message: string;
      readonly retry_after_seconds: number | null;
      readonly http_status: number | null;
      /** Where it happened, as far as that is known (domain/fingerprint.ts). */
      readonly place: string | null;
    }
  /** Later, and the attempt does not count; `http_status`: what a target said with it. */
  | { readonly kind: 'snoozed'; readonly delay_ms: number; readonly http_status: number | null }
  /** Somebody else holds the lease now and will end the start. */
  | { readonly kind: 'handed_over' };

/** A verdict of failure; the text is cut to what is for reading. */
export function failed(kind: ErrorClass, message: string): Extract<Verdict, { kind: 'failed' }> {
  return {
    kind: 'failed',
    class: kind,
    message: reasonText(message),
    retry_after_seconds: null,
    http_status: null,
    place: null,
  };
}

/** What is kept of the words somebody found for a failure: 2,000 characters that can be stored. */
export function reasonText(message: string): string {
  // Postgres text holds no NUL, and UTF-8 no half of a surrogate pair.
  return message.replaceAll('\0', '').slice(0, 2_000).toWellFormed();
}

/** Who reported the failure. */
export const errorSources = ['target', 'worker', 'handler', 'errand'] as const;

/** The reporter of a failure: the pushed URL, a pull worker, a function in this process, or Errand itself. */
export type ErrorSource = (typeof errorSources)[number];

/** The error a job ended with. */
export interface JobError {
  readonly class: ErrorClass;
  readonly source: ErrorSource;
  readonly detail: string | null;
  readonly http_status: number | null;
  /** Absent where there is none. */
  readonly fingerprint?: string;
}

/** What the answer to a waiting caller depends on. */
export interface JobFacts {
  readonly id: string;
  readonly state: JobState;
  readonly has_result: boolean;
  readonly created_uri: string | null;
  readonly error: JobError | null;
  /** Why a job was cancelled, where that is known. */
  readonly why?: string | null;
}

/** How the caller waits: by wish (`soft`) or by one of the three demands (docs/contract.md, Modes). */
export type WaitMode = 'soft' | SyncExpectation;

/** What to put into the body of an answer. */
export type AnswerBody = 'result' | 'record' | 'none' | Problem;

/** The answer to a waiting caller; the paths are absolute, `created_uri` is as the worker named it. */
export interface Answer {
  readonly status: number;
  readonly location: string | null;
  readonly content_location: string | null;
  readonly body: AnswerBody;
}

/** Says what a job at its end answers, or null while it is open: the table in docs/contract.md, Outcomes. */
export function answerFor(mode: WaitMode, job: JobFacts): Answer | null {
  switch (job.state) {
    case 'succeeded':
      return success(mode, job);
    case 'dead':
      return refusal(deadProblem(job));
    case 'expired':
      return refusal(expiredProblem(job));
    case 'cancelled':
      return refusal(cancelledProblem(job));
    default:
      return null;
  }
}

/** Says which status a dead job answers: 504, 422, 502 or 500 (docs/contract.md, Outcomes). */
export function failureStatus(error: JobError | null): 422 | 500 | 502 | 504 {
  if (error === null) return 500;
  if (error.class === 'timeout') return 504;
  const declared = error.source === 'worker' || error.source === 'handler';
  if (declared && (error.class === 'permanent' || error.class === 'poison')) return 422;
  return error.source === 'target' || error.source === 'worker' ? 502 : 500;
}

/** A failed attempt and what decides about the next one; `attempt` counts from 1. */
export interface Failure {
  readonly class: ErrorClass;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly retry_after_seconds: number | null;
  readonly cancel_requested: boolean;
  /** For how long from now on further attempts may begin; null = without end. */
  readonly left_ms: number | null;
  readonly backoff: BackoffPolicy;
  readonly random: () => number;
}

/** What becomes of a job after a failed attempt. */
export type AfterFailure =
  | { readonly outcome: 'retry'; readonly delay_ms: number }
  /** `note`: why, where the failure itself does not say it. */
  | { readonly outcome: 'dead'; readonly note?: string }
  | { readonly outcome: 'cancelled' };

/** Decides what becomes of a job after a failed attempt (docs/contract.md, States). */
export function afterFailure(failure: Failure): AfterFailure {
  // Whoever stops after having been asked to has obeyed, whatever words it finds for it.
  if (failure.cancel_requested) return { outcome: 'cancelled' };
  if (failure.class === 'permanent' || failure.class === 'poison') return { outcome: 'dead' };
  if (failure.attempt >= failure.max_attempts) return { outcome: 'dead' };
  const delay_ms = retryDelayMs(failure);
  if (failure.left_ms !== null && delay_ms > failure.left_ms) return { outcome: 'dead', note: tooOld };
  return { outcome: 'retry', delay_ms };
}

/** Why a job that has attempts left is dead. */
export const tooOld = 'no further attempt may begin: the job is older than its max_age_seconds';

/** What is recorded of a failure in words: what was said of it, and why the job is dead if that is not all. */
export function errorText(message: string | null, after: AfterFailure): string | null {
  const note = after.outcome === 'dead' ? after.note : undefined;
  return [message, note].filter(Boolean).join('; ') || null;
}

/** For how long from `now` on further attempts may begin; null = without end. */
export function leftMs(
  { created_at, run_at, options }: { created_at: Date; run_at: Date | null; options: JobOptions | null },
  now: Date,
): number | null {
  const seconds = options?.max_age_seconds;
  return seconds === undefined ? null : (run_at ?? created_at).getTime() + seconds * 1_000 - now.getTime();
}

function success(mode: WaitMode, job: JobFacts): Answer {
  const record = `/v1/jobs/${job.id}`;
  const result = job.has_result ? `${record}/result` : null;
  const created = job.created_uri;
  const body = result === null ? 'record' : 'result';
  switch (mode) {
    case '200-ok':
      return { status: 200, location: null, content_location: created ?? result ?? record, body };
    case '201-created':
      return { status: 201, location: created ?? result ?? record, content_location: result ?? record, body };
    case '204-no-content':
      return { status: 204, location: null, content_location: created ?? result, body: 'none' };
    case 'soft':
      if (created !== null) {
        return { status: 201, location: created, content_location: result ?? record, body };
      }
      if (result !== null) return { status: 200, location: null, content_location: result, body };
      return { status: 204, location: null, content_location: null, body: 'none' };
  }
}

function refusal(problem: Problem): Answer {
  return { status: problem.status, location: null, content_location: null, body: problem };
}

function deadProblem(job: JobFacts): Problem {
  const reason = job.error?.detail ?? 'no reason was given';
  return new Problem('job-failed', {
    detail: `job ${job.id} is dead: ${reason}`,
    status: failureStatus(job.error),
    job: { id: job.id, state: job.state, error: job.error },
  });
}

function expiredProblem(job: JobFacts): Problem {
  return new Problem('job-expired', {
    detail: `job ${job.id} expired before its next start; send it again with a later expires_at`,
    job: { id: job.id, state: job.state },
  });
}

function cancelledProblem(job: JobFacts): Problem {
  const next = /^superseded by job (\d+)$/.exec(job.why ?? '')?.[1];
  const remedy = next === undefined ? 'submit it again if the work is still wanted' : 'follow Location';
  return new Problem('job-cancelled', {
    detail: `job ${job.id} was ${job.why ?? 'cancelled'}; ${remedy}`,
    headers: next === undefined ? {} : { location: `/v1/jobs/${next}/status` },
    job: { id: job.id, state: job.state },
  });
}

const longestRetryAfterSeconds = 86_400;

// A lost lease says nothing against the job, so it is ready again at once.
function retryDelayMs(failure: Failure): number {
  if (failure.class === 'lost') return 0;
  const own = backoffDelayMs(failure.backoff, failure.attempt, failure.random);
  return Math.max(own, retryAfterMs(failure.retry_after_seconds));
}

// A Retry-After may be negative, absurd or no number at all (RFC 9110 section 10.2.3).
function retryAfterMs(seconds: number | null): number {
  if (seconds === null || !(seconds > 0)) return 0;
  return Math.ceil(Math.min(seconds, longestRetryAfterSeconds) * 1000);
}

/** The state of a job after an ending of a start that was its `attempt`-th to count; `delay_ms`: when the next one may come. */
export function stateAfter(
  status: TerminalState | 'retry' | 'lost' | 'released' | 'snoozed',
  attempt: number,
  delay_ms: number | null,
): JobState {
  if (isTerminal(status as JobState)) return status as TerminalState;
  if (!delay_ms) return 'queued';
  const counts = status !== 'released' && status !== 'snoozed';
  return counts || attempt > 1 ? 'retrying' : 'scheduled';
}
