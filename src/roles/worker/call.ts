// Executes a start by calling a handler in this process: read the payload, call, judge what it returned or threw.
// Invariant: nothing a handler does can throw here, and one that ignores its signal holds its slot no longer than its
// deadline, its lease or the drain.
// Next room: handlers.ts, what a handler is; judge.ts; run.ts, which settles the verdict.
import type { Job } from '../../actions/claim.ts';
import { readPayload } from '../../domain/payload.ts';
import {
  checkpointText,
  type Handler,
  type HandlerContext,
  reportText,
  type StartFacts,
} from './handlers.ts';
import { judge } from './judge.ts';
import { type ReportOptions, Reports } from './report.ts';
import type { Execute, Running } from './run.ts';

export interface CallOptions extends ReportOptions {
  /** Most bytes of a result. */
  limit: number;
}

/** Builds the execution by handlers in this process. */
export function calling(handlers: ReadonlyMap<string, Handler>, options: CallOptions): Execute {
  return async (running) => {
    const { job } = running;
    const handler = handlers.get(job.type) as Handler;
    const reports = new Reports(running, options);
    const work = () =>
      untilQuit(handler.run(readPayload(job.payload, job.options), contextOf(running, reports)), running);
    const verdict = await judge(work, options.limit, () => running.stopped === 'deadline');
    const left = reports.finish();
    if (left !== undefined) await left;
    return verdict;
  };
}

/** What a handler is told of its start. */
export function factsOf(job: Job): StartFacts {
  const slot = job.options?.schedule ?? null;
  return {
    job_id: job.job_id,
    queue: job.queue,
    type: job.type,
    attempt: job.attempt,
    max_attempts: job.max_attempts,
    epoch: job.epoch,
    deadline: job.deadline,
    content_type: job.options?.content_type ?? 'application/json',
    schedule: slot === null ? null : { name: slot.name, slot: new Date(slot.slot) },
    scheduled_for: slot === null ? job.created_at : new Date(slot.slot),
    traceparent: job.options?.traceparent ?? null,
  };
}

function contextOf({ job, abort }: Running, reports: Reports): HandlerContext {
  return {
    ...factsOf(job),
    last_checkpoint: job.checkpoint === null ? null : JSON.parse(job.checkpoint),
    signal: abort.signal,
    progress: (value) => reports.progress(reportText(value)),
    checkpoint: async (value) => reports.checkpoint(checkpointText(value)),
  };
}

/** Waits for work, but no longer than until the start has to quit. What needs no waiting is handed back as it is. */
function untilQuit(work: unknown, running: Running): unknown {
  if (typeof (work as PromiseLike<unknown> | null | undefined)?.then !== 'function') return work;
  // Made here, because most of a fast handler's cost would be promises it never needed.
  return new Promise((resolve, reject) => {
    running.quit = reject;
    (work as PromiseLike<unknown>).then(resolve, reject);
  });
}
