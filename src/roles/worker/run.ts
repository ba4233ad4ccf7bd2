// One start of a job in this process, as a list of steps: execute, judge, settle. The settle is retried apart from the
// work, so a database that is away for a moment does not waste the work.
// Invariant: every start that was claimed is settled once or left to the rescue.
// Next room: call.ts, which executes handlers; actions/settle.ts.

import type { Job } from '../../actions/claim.ts';
import { noDetails, type Settle } from '../../actions/settle.ts';
import { defaultBackoff } from '../../domain/backoff.ts';
import { afterFailure, type ErrorClass, type ErrorSource } from '../../domain/outcome.ts';
import { Problem } from '../../domain/problem.ts';
import type { Ending } from '../../store/endings.ts';

/** Why a running job is told to stop, and in which words. */
export const stopReasons = {
  deadline: 'the attempt ran longer than timeout_seconds',
  cancelled: 'the job was cancelled',
  lost: 'the lease was lost',
  drain: 'the server is stopping',
} as const;

export type StopReason = keyof typeof stopReasons;

/** A start under way. */
export interface Running {
  job: Job;
  abort: AbortController;
  stopped: StopReason | null;
  cancel_requested: boolean;
  /** When it was handed to us, on our own monotonic clock: the database's clock may differ from ours. */
  began: number;
  /** Ends the wait for the work; a cancel is a request and does not. Absent until something is waited for. */
  quit: ((reason: Error) => void) | undefined;
}

/** How the work of a start went. */
export type Verdict =
  | { kind: 'succeeded'; result: string | null }
  | { kind: 'failed'; class: ErrorClass; message: string; retry_after_seconds: number | null };

/** Does the work of a start. Never throws: whatever happens to the work is a verdict. */
export type Execute = (running: Running) => Promise<Verdict>;

export interface RunOptions {
  execute: Execute;
  /** Who is said to have reported a failure. */
  source: ErrorSource;
  settle: Settle;
  random: () => number;
}

/** Runs one claimed job to its settled end. */
export async function runStart(running: Running, options: RunOptions): Promise<void> {
  const verdict = await options.execute(running);
  if (running.stopped === 'lost') return;
  await settleWithRetries(running, ending(running, verdict, options), options.settle);
}

/** A verdict of failure; the text is cut to what is for reading. */
export function failed(kind: ErrorClass, message: string): Extract<Verdict, { kind: 'failed' }> {
  // Postgres text holds no NUL.
  const text = message.replaceAll('\0', '').slice(0, 2_000);
  return { kind: 'failed', class: kind, message: text, retry_after_seconds: null };
}

function ending(running: Running, verdict: Verdict, { source, random }: RunOptions): Ending {
  const { job, stopped } = running;
  const plain = { ...noDetails, start: job };
  if (verdict.kind === 'succeeded') return { ...plain, status: 'succeeded', result: verdict.result };
  if (stopped === 'drain' && !running.cancel_requested) return { ...plain, status: 'released', delay_ms: 0 };
  if (running.cancel_requested) return { ...plain, status: 'cancelled', source, error: verdict.message };
  const next = afterFailure({
    class: verdict.class,
    attempt: job.attempt,
    max_attempts: job.max_attempts,
    retry_after_seconds: verdict.retry_after_seconds,
    cancel_requested: false,
    backoff: job.backoff ?? defaultBackoff,
    random,
  });
  return {
    ...plain,
    status: next.outcome,
    class: verdict.class,
    source,
    error: verdict.message,
    delay_ms: next.outcome === 'retry' ? next.delay_ms : null,
  };
}

async function settleWithRetries(running: Running, end: Ending, settle: Settle): Promise<void> {
  const { deadline, started_at } = running.job;
  const giveUp = running.began + (deadline.getTime() - started_at.getTime()) + 5_000;
  for (let pause = 100; ; pause = Math.min(pause * 2, 2_000)) {
    try {
      await settle(end, { queue: running.job.queue, type: running.job.type });
      return;
    } catch (error) {
      // Past its deadline the lease cannot be renewed and the rescue writes another end.
      const mayHeal = error instanceof Problem && error.retryable;
      if (!mayHeal || performance.now() > giveUp || running.stopped === 'lost') throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}
