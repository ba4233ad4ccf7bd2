// Everything that can go wrong, as errors with names. Next room: call.ts, which throws most of them.
import type { Accepted } from './errand.ts';
import type { Problem } from './shapes.ts';

/** Errand's own answer that something is wrong: with the request, with the service, or (`job-…`) with the job. */
export class ErrandProblem extends Error {
  override readonly name = 'ErrandProblem';
  /** What programs go by: `validation-failed`, `job-failed`, `expectation-timeout`, … */
  readonly code: Problem['code'];
  readonly status: number;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** Seconds to wait before that, where the service said so. */
  readonly retryAfterSeconds: number | null;
  /** The whole problem: `errors`, `job`, `executed`, `reason`, `request_id`. */
  readonly problem: Problem;

  constructor(problem: Problem, retryAfterSeconds: number | null = null) {
    super(`${problem.code}: ${problem.detail}`);
    this.code = problem.code;
    this.status = problem.status;
    this.retryable = problem.retryable;
    this.retryAfterSeconds = retryAfterSeconds;
    this.problem = problem;
  }
}

/** An answer that is none of Errand's: most likely a proxy's. */
export class UnexpectedAnswer extends Error {
  override readonly name = 'UnexpectedAnswer';
  readonly status: number;
  /** The beginning of its body. */
  readonly text: string;

  constructor(status: number, text: string) {
    super(`status ${status} without a problem in it; is there a proxy on the way?`);
    this.status = status;
    this.text = text.slice(0, 1_000);
  }
}

/** A demand was lost on the way: the job is stored, but nobody was told to wait for it. */
export class Stripped extends Error {
  override readonly name = 'Stripped';
  /** The job, to be followed or cancelled. */
  readonly accepted: Accepted<never>;

  constructor(accepted: Accepted<never>) {
    const understood =
      accepted.mode === null ? 'the answer has no Errand-Mode' : `understood was ${accepted.mode}`;
    super(`the demand was lost on the way (${understood}): let the proxy pass Errand-Expect and Prefer`);
    this.accepted = accepted;
  }
}
