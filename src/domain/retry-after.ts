// When to ask again: the Retry-After of a 202 and of a status poll. Guards: a caller who obeys it polls often
// while an answer is likely and rarely when not, and callers who began together drift apart. No statistics
// are kept: its age or its due time decides (docs/contract.md, Retry-After).
// Next room: http/answer.ts, which sends it.

import { isTerminal, type JobState } from './job.ts';

/** The times of a job that decide; null where the job has not come so far. */
export interface RetryAfterFacts {
  readonly state: JobState;
  readonly created_at: Date;
  readonly run_at: Date | null;
  readonly started_at: Date | null;
}

const longestWait = 60;
const longestWaitForDue = 3600;

/** Says after how many whole seconds to ask again, or null when the job is at its end. */
export function retryAfterSeconds(job: RetryAfterFacts, now: Date, random: () => number): number | null {
  if (isTerminal(job.state)) return null;
  if ((job.state === 'scheduled' || job.state === 'retrying') && job.run_at !== null) {
    return spread(secondsBetween(now, job.run_at), longestWaitForDue, random);
  }
  const since = job.state === 'running' ? (job.started_at ?? job.created_at) : job.created_at;
  return spread(patience(secondsBetween(since, now)), longestWait, random);
}

// 1, 2, 5, 10 s by age: each wait is a fraction of the age already reached.
function patience(ageSeconds: number): number {
  if (ageSeconds < 5) return 1;
  if (ageSeconds < 20) return 2;
  if (ageSeconds < 60) return 5;
  return 10;
}

function secondsBetween(from: Date, to: Date): number {
  return (to.getTime() - from.getTime()) / 1000;
}

// Rounded up before the jitter, so that nobody is told to come too early; the jitter adds whole seconds, 0 to 20 %.
function spread(wait: number, longest: number, random: () => number): number {
  const whole = Math.min(Math.max(1, Math.ceil(wait)), longest);
  const jitter = Math.floor(random() * (Math.floor(whole / 5) + 1));
  return Math.min(whole + jitter, longest);
}
