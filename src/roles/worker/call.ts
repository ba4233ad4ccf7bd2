// Executes a start by calling a handler in this process: parse, call, judge what it returned or threw.
// Invariant: nothing a handler does can throw here, and one that ignores its signal holds its slot no longer than its
// deadline, its lease or the drain.
// Next room: handlers.ts, what a handler is; run.ts, which settles the verdict.
import { failed } from '../../domain/outcome.ts';
import { type Handler, JobError } from './handlers.ts';
import { type Execute, type Running, stopReasons } from './run.ts';

/** Builds the execution by handlers; `limit` is that of a result, in bytes. */
export function calling(handlers: ReadonlyMap<string, Handler>, limit: number): Execute {
  return async (running) => {
    const { job, abort } = running;
    try {
      const handler = handlers.get(job.type) as Handler;
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
      return { kind: 'succeeded', result, created_uri: null };
    } catch (error) {
      if (error instanceof JobError)
        return { ...failed(error.class, messageOf(error)), retry_after_seconds: error.retry_after_seconds };
      if (running.stopped === 'deadline') return failed('timeout', stopReasons.deadline);
      return failed('retryable', messageOf(error));
    }
  };
}

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
