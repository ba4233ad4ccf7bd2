// One start of a job in this process, as a list of steps: execute, judge, settle. The settle is retried apart from the
// work, so a database that is away for a moment does not waste the work.
// Invariant: every start that was claimed is settled once, handed over, or left to the rescue.
// Next room: call.ts executes handlers, pusher.ts pushes; then actions/settle.ts.

import type { Job } from '../../actions/claim.ts';
import type { HandOver } from '../../actions/hand-over.ts';
import { noDetails, type Settle } from '../../actions/settle.ts';
import { defaultBackoff } from '../../domain/backoff.ts';
import { fingerprintOf, placeOfUrl } from '../../domain/fingerprint.ts';
import { afterFailure, type ErrorSource, errorText, type Verdict } from '../../domain/outcome.ts';
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
export class Running {
  readonly job: Job;
  /** When it was handed to us, on our own monotonic clock: the database's clock may differ from ours. */
  readonly began: number;
  stopped: StopReason | null = null;
  cancel_requested = false;
  /** Ends the wait for the work; a cancel is a request and does not. Absent until something is waited for. */
  quit: ((reason: Error) => void) | undefined = undefined;
  /** Called whenever it is told to stop. */
  onStop: (() => void) | undefined = undefined;
  // Made for those who ask: few do, and it costs as much as the rest of a start here.
  #abort: AbortController | undefined = undefined;

  constructor(job: Job, began: number) {
    this.job = job;
    this.began = began;
  }

  /** Aborts when the start is told to stop. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.stopped !== null) this.#abort.abort(new Error(stopReasons[this.stopped]));
    return this.#abort.signal;
  }

  get isStopped(): boolean {
    return this.stopped !== null;
  }

  /** Tells the start to stop. What it still brings after a loss is dropped. */
  stop(reason: StopReason): void {
    if (this.stopped === null || reason === 'lost') this.stopped = reason;
    const error = new Error(stopReasons[reason]);
    this.#abort?.abort(error);
    this.onStop?.();
    if (reason !== 'cancelled') this.quit?.(error);
  }
}

/** Does the work of a start. Never throws: whatever happens to the work is a verdict. */
export type Execute = (running: Running) => Verdict | Promise<Verdict>;

export interface RunOptions {
  execute: Execute;
  handOver: HandOver['handOver'];
  /** Who is said to have reported a failure. */
  source: ErrorSource;
  settle: Settle;
  /** The work of a start is over; what is left is to write its end. */
  onWorked: () => void;
  random: () => number;
}

/** Runs one claimed job to its settled end, or to where somebody else has taken over. */
export async function runStart(running: Running, options: RunOptions): Promise<void> {
  const { job } = running;
  let verdict: Verdict;
  try {
    const executed = options.execute(running);
    verdict = executed instanceof Promise ? await executed : executed;
  } finally {
    // A fault of ours must not cost a slot as well.
    options.onWorked();
  }
  if (running.stopped === 'lost') return;
  if (verdict.kind === 'handed_over') {
    // The database cuts this to the deadline. Null means that whoever took over has ended the start already.
    await withRetries(running, () => options.handOver(job, Math.ceil(lastsMs(job) / 1_000)));
  } else {
    const end = ending(running, verdict, options);
    await withRetries(running, () => options.settle(end, job));
  }
}

function ending(
  running: Running,
  verdict: Exclude<Verdict, { kind: 'handed_over' }>,
  { source, random }: RunOptions,
): Ending {
  const { job, stopped } = running;
  if (verdict.kind === 'succeeded') {
    const { result, created_uri } = verdict;
    return { ...noDetails, start: job, status: 'succeeded', result, created_uri };
  }
  const plain = { ...noDetails, start: job };
  const { http_status } = verdict;
  if (verdict.kind === 'snoozed')
    return { ...plain, status: 'snoozed', delay_ms: verdict.delay_ms, http_status };
  if (stopped === 'drain' && !running.cancel_requested)
    return job.max_attempts === 1 ? cutOff(job) : { ...plain, status: 'released', delay_ms: 0 };
  if (running.cancel_requested)
    return { ...plain, status: 'cancelled', source, http_status, error: verdict.message };
  const next = afterFailure({
    class: verdict.class,
    attempt: job.attempt,
    max_attempts: job.max_attempts,
    retry_after_seconds: verdict.retry_after_seconds,
    cancel_requested: false,
    left_ms: job.retry_until === null ? null : job.retry_until - nowOf(running),
    backoff: job.backoff ?? defaultBackoff,
    random,
  });
  return {
    ...plain,
    status: next.outcome,
    class: verdict.class,
    source,
    http_status,
    error: errorText(verdict.message, next),
    fingerprint: fingerprintOf({ ...verdict, type: job.type, source, place: verdict.place ?? targetOf(job) }),
    delay_ms: next.outcome === 'retry' ? next.delay_ms : null,
  };
}

/** A job of one attempt has had it, however politely its worker went. */
function cutOff(job: Job): Ending {
  const cause = { class: 'lost', source: 'errand', http_status: null } as const;
  const error = 'the server stopped while it ran, and max_attempts is 1';
  const fingerprint = fingerprintOf({ ...cause, type: job.type, message: error, place: null });
  return { ...noDetails, start: job, status: 'dead', ...cause, error, fingerprint };
}

/** The present moment by the database's clock, in ms. */
function nowOf({ job, began }: Running): number {
  return job.started_at.getTime() + performance.now() - began;
}

/** Where a push goes. */
function targetOf({ options }: Job): string | null {
  return options?.target === undefined ? null : placeOfUrl(options.target.url);
}

/** How long the attempt may take, by the database's clock. */
function lastsMs({ deadline, started_at }: Job): number {
  return deadline.getTime() - started_at.getTime();
}

/** Repeats what a database that is away for a moment refused, for as long as the start may last. */
export async function withRetries<T>(running: Running, work: () => Promise<T>): Promise<T> {
  const giveUp = running.began + lastsMs(running.job) + 5_000;
  for (let pause = 100; ; pause = Math.min(pause * 2, 2_000)) {
    try {
      return await work();
    } catch (error) {
      // Past its deadline the lease cannot be renewed and the rescue writes another end.
      const mayHeal = error instanceof Problem && error.retryable;
      if (!mayHeal || performance.now() > giveUp || running.stopped === 'lost') throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}
