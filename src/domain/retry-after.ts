// When to ask again: the Retry-After of a 202 and of a status poll, and the estimate in their bodies. Guards: a caller who
// obeys it polls often while an answer is likely and rarely when not, and callers who began together drift apart. Where
// nothing is known of the line a job stands in, its age decides (docs/contract.md, Retry-After).
// Next room: actions/estimate.ts, which knows the line; http/answer.ts, which sends it.

import { isTerminal, type JobState } from './job.ts';

/** The times of a job that decide; null where the job has not come so far. */
export interface RetryAfterFacts {
  readonly state: JobState;
  readonly created_at: Date;
  readonly run_at: Date | null;
  readonly started_at: Date | null;
}

/** What is known of the jobs of its queue and type. */
export interface Pace {
  readonly queued: number;
  /** Jobs that arrive and that start, each second; nobody knows of any: 0. */
  readonly arrivals: number;
  readonly starts: number;
  /** How long half of the attempts take at most, and nine of ten; null: none has ended lately. */
  readonly run_p50_ms: number | null;
  readonly run_p90_ms: number | null;
}

/** What an estimate was made of: when the job is due, how fast its line moves, how long such jobs run, that it is paused, its age. */
export const bases = ['due', 'line', 'run_time', 'paused', 'age'] as const;

/** In how many s to ask again. */
export interface Estimate {
  readonly seconds: number;
  readonly basis: (typeof bases)[number];
}

const longestWait = 60;
const longestWaitForDue = 3600;
const pausedWait = 30;

/** Says after how many whole seconds to ask again, or null when the job is at its end. */
export function estimateOf(
  job: RetryAfterFacts,
  now: Date,
  random: () => number,
  known: { pace: Pace | null; isPaused: boolean } = { pace: null, isPaused: false },
): Estimate | null {
  const { state, created_at, run_at, started_at } = job;
  if (isTerminal(state)) return null;
  if ((state === 'scheduled' || state === 'retrying') && run_at !== null) {
    return { seconds: spread(secondsBetween(now, run_at), longestWaitForDue, random), basis: 'due' };
  }
  const age = secondsBetween(state === 'running' ? (started_at ?? created_at) : created_at, now);
  if (state !== 'running' && known.isPaused)
    return { seconds: spread(pausedWait, longestWait, random), basis: 'paused' };
  const { pace } = known;
  if (state === 'running' && pace !== null && pace.run_p90_ms !== null) {
    return { seconds: spread(restOf(pace.run_p90_ms / 1_000, age), longestWait, random), basis: 'run_time' };
  }
  if (state === 'queued' && pace !== null && pace.starts > 0) {
    return { seconds: spread(inLine(pace, age), longestWait, random), basis: 'line' };
  }
  return { seconds: spread(patience(age), longestWait, random), basis: 'age' };
}

/** Those before it, at the pace of the line, and its own run. What arrived after it is not before it. */
function inLine({ queued, arrivals, starts, run_p50_ms }: Pace, age: number): number {
  const ahead = Math.max(0, queued - arrivals * Math.max(0, age));
  return ahead / starts + (run_p50_ms ?? 0) / 1_000;
}

/** Most are done by then; who is not is asked for rarely, the more so the longer it takes. */
function restOf(usual: number, elapsed: number): number {
  return elapsed < usual ? usual - elapsed : elapsed / 4;
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
