// One start of a job in this process, as a list of steps: parse, run under the deadline, judge, settle. The settle is
// retried apart from the work, so a database that is away for a moment does not waste the work.
// Invariant: every start that was claimed is settled once or left to the rescue; nothing a handler does can throw here.
// Next room: actions/settle.ts.

import type { Job } from '../../actions/claim.ts';
import { noDetails, type Settle } from '../../actions/settle.ts';
import { defaultBackoff } from '../../domain/backoff.ts';
import { afterFailure, type ErrorClass } from '../../domain/outcome.ts';
import { Problem } from '../../domain/problem.ts';
import type { Ending } from '../../store/endings.ts';
import { type Handler, JobError } from './handlers.ts';

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
  /** Ends the wait for the handler; a cancel is a request and does not. Absent until something is waited for. */
  quit: ((reason: Error) => void) | undefined;
}

export interface RunOptions {
  settle: Settle;
  random: () => number;
  resultLimitBytes: number;
}

/** Runs one claimed job with its handler to its settled end. Never throws. */
export async function runJob(running: Running, handler: Handler, options: RunOptions): Promise<void> {
  const verdict = await execute(running, handler, options.resultLimitBytes);
  if (running.stopped === 'lost') return;
  await settleWithRetries(running, ending(running, verdict, options.random), options.settle);
}

type Verdict =
  | { ok: true; result: string | null }
  | { ok: false; class: ErrorClass; message: string; retry_after_seconds: number | null };

async function execute(running: Running, handler: Handler, limit: number): Promise<Verdict> {
  const { job, abort } = running;
  try {
    const returned = await untilQuit(
      handler.run(JSON.parse(job.payload), {
        job_id: job.job_id,
        queue: job.queue,
        type: job.type,
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        epoch: job.epoch,
        deadline: job.deadline,
        signal: abort.signal,
      }),
      running,
    );
    const result = returned === undefined ? null : (JSON.stringify(returned) ?? null);
    if (result !== null && Buffer.byteLength(result) > limit) {
      return failed('permanent', `the result is larger than ${limit} bytes`);
    }
    return { ok: true, result };
  } catch (error) {
    if (error instanceof JobError)
      return { ...failed(error.class, messageOf(error)), retry_after_seconds: error.retry_after_seconds };
    if (running.stopped === 'deadline') return failed('timeout', stopReasons.deadline);
    return failed('retryable', messageOf(error));
  }
}

/** A handler that ignores its signal must not hold its slot past its deadline, its lease or the drain: that ends the wait. */
function untilQuit(work: unknown, running: Running): unknown {
  if (typeof (work as PromiseLike<unknown> | null | undefined)?.then !== 'function') return work;
  // Made here, because most of a fast handler's cost would be promises it never needed.
  return new Promise((resolve, reject) => {
    running.quit = reject;
    (work as PromiseLike<unknown>).then(resolve, reject);
  });
}

/** Whatever was thrown, in words: an error may carry anything as its message. */
function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return 'the handler threw something that cannot be shown';
  }
}

function failed(kind: ErrorClass, message: string): Extract<Verdict, { ok: false }> {
  // Postgres text holds no NUL, and an error text is for reading, not for storing data.
  return {
    ok: false,
    class: kind,
    message: message.replaceAll('\0', '').slice(0, 2_000),
    retry_after_seconds: null,
  };
}

function ending(running: Running, verdict: Verdict, random: () => number): Ending {
  const { job, stopped } = running;
  const plain = { ...noDetails, start: job };
  if (verdict.ok) return { ...plain, status: 'succeeded', result: verdict.result };
  if (stopped === 'drain' && !running.cancel_requested) return { ...plain, status: 'released', delay_ms: 0 };
  const cause = { class: verdict.class, source: 'handler' as const, error: verdict.message };
  if (running.cancel_requested) {
    return { ...plain, status: 'cancelled', source: 'handler', error: verdict.message };
  }
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
    ...cause,
    status: next.outcome,
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
