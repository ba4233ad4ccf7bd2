// How long a job waits between two attempts. Guards: a growing wait never exceeds the cap, whatever the attempt; chance is
// passed in, so a test can know it. Jitter spreads jobs that failed together, so that they do not fail together again.
// Next room: domain/outcome.ts, which decides whether there is another attempt at all.

import { z } from 'zod';

// A week: longer waits are a matter of run_at, not of a retry.
const longestSeconds = 604_800;

const seconds = z.number().min(0).max(longestSeconds);

/** The backoff of a job as on the wire; defaults are exponential, 2 s to 900 s. */
export const Backoff = z
  .strictObject({
    strategy: z
      .enum(['exponential', 'linear', 'fixed', 'list'])
      .default('exponential')
      .describe('How the wait grows: doubling, by one base each time, not at all, or as listed.'),
    base_seconds: seconds.default(2).describe('Wait after the first attempt, in seconds.'),
    cap_seconds: seconds
      .default(900)
      .describe('Longest wait, in seconds, at least base_seconds; a list is not cut.'),
    jitter: z
      .enum(['full', 'equal', 'none'])
      .optional()
      .describe(
        'Chance in the wait: from 0 to all of it, from half to all of it, or none. Default: full; none for a list.',
      ),
    delays_seconds: z
      .array(seconds)
      .min(1)
      .max(100)
      .optional()
      .describe('For strategy list: the wait after each attempt, in seconds; the last one repeats.'),
  })
  .refine((policy) => (policy.strategy === 'list') === (policy.delays_seconds !== undefined), {
    path: ['delays_seconds'],
    message: 'delays_seconds goes with strategy list, and only with it',
  })
  .refine((policy) => policy.strategy === 'list' || policy.base_seconds <= policy.cap_seconds, {
    path: ['cap_seconds'],
    message: 'cap_seconds must be at least base_seconds',
  })
  .meta({ id: 'Backoff', description: 'How long to wait between two attempts.' });

/** A backoff with its defaults filled in. */
export type BackoffPolicy = z.output<typeof Backoff>;

/** The backoff of a job that asks for none: exponential, 2 s to 900 s, full jitter. */
export const defaultBackoff: BackoffPolicy = Object.freeze({
  strategy: 'exponential',
  base_seconds: 2,
  cap_seconds: 900,
  jitter: 'full',
});

/** Says how many whole milliseconds to wait after `attempt` (1 = the first) has failed; `random` gives 0 to below 1. */
export function backoffDelayMs(policy: BackoffPolicy, attempt: number, random: () => number): number {
  const wait = policy.strategy === 'list' ? listed(policy, attempt) : grown(policy, attempt);
  return Math.round(jittered(wait, policy, random) * 1000);
}

function listed(policy: BackoffPolicy, attempt: number): number {
  const delays = policy.delays_seconds ?? [];
  return delays[Math.min(attempt, delays.length) - 1] ?? policy.base_seconds;
}

function grown(policy: BackoffPolicy, attempt: number): number {
  if (policy.strategy === 'fixed') return policy.base_seconds;
  if (policy.strategy === 'linear') return Math.min(policy.base_seconds * attempt, policy.cap_seconds);
  // The cap has decided long before 2^1000; the bound keeps 0 * Infinity out.
  return Math.min(policy.base_seconds * 2 ** Math.min(attempt - 1, 1000), policy.cap_seconds);
}

// Whoever lists waits means those waits, so a list has no jitter unless it is asked for.
function jittered(wait: number, policy: BackoffPolicy, random: () => number): number {
  const jitter = policy.jitter ?? (policy.strategy === 'list' ? 'none' : 'full');
  if (jitter === 'full') return wait * random();
  if (jitter === 'equal') return wait / 2 + (wait / 2) * random();
  return wait;
}
