// How often, how long and how late a job is tried: what it says itself, else what is set of its type, else of its queue,
// else what the product does.
// Invariant: the policy is found when the job is submitted and kept with it, so a setting that is changed later changes no
// job that is there.
// Next room: queue-settings.ts, what is set; outcome.ts, which goes by the policy after a failure.
import type { JobOptions } from './options.ts';
import type { RetryDefaults } from './queue-settings.ts';

/** What a job says of itself; null = nothing. `backoff` is JSON text. */
export interface PolicyAsk {
  readonly max_attempts: number | null;
  readonly timeout_seconds: number | null;
  readonly backoff: string | null;
  readonly max_age_seconds: number | null;
}

/** What a job is given; `backoff` null = exponential from 2 s to 900 s, `max_age_seconds` null = without end. */
export interface Policy extends PolicyAsk {
  readonly max_attempts: number;
  readonly timeout_seconds: number;
}

/** What is set of a queue and a type in it. */
export type PolicyOf = (queue: string, type: string) => RetryDefaults;

const usual_attempts = 8;
const usual_timeout_seconds = 60;

/** The policy of a job. */
export function policyFor(asked: PolicyAsk, set: RetryDefaults): Policy {
  return {
    max_attempts: asked.max_attempts ?? set.max_attempts ?? usual_attempts,
    timeout_seconds: asked.timeout_seconds ?? set.timeout_seconds ?? usual_timeout_seconds,
    backoff: asked.backoff ?? (set.backoff === null ? null : JSON.stringify(set.backoff)),
    max_age_seconds: asked.max_age_seconds ?? set.max_age_seconds,
  };
}

/** The options of a job with what its policy adds to them; null = none. */
export function withAge<Options extends Pick<JobOptions, 'max_age_seconds'>>(
  options: Options | null,
  { max_age_seconds }: Policy,
): Options | { max_age_seconds: number } | null {
  return max_age_seconds === null ? options : { ...options, max_age_seconds };
}
