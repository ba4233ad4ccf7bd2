// Executes a start by calling a handler in this process: read the payload, call, judge what it returned or threw.
// Invariant: nothing a handler does can throw here, and one that ignores its signal holds its slot no longer than its
// deadline, its lease or the drain.
// Next room: handlers.ts, what a handler is; judge.ts; run.ts, which settles the verdict.
import type { Job } from '../../actions/claim.ts';
import type { Verdict } from '../../domain/outcome.ts';
import { readPayload } from '../../domain/payload.ts';
import {
  checkpointText,
  type Handler,
  type HandlerContext,
  reportText,
  type StartFacts,
  snooze,
} from './handlers.ts';
import { isThenable, judge } from './judge.ts';
import { type ReportOptions, Reports } from './report.ts';
import type { Execute, Running } from './run.ts';

export interface CallOptions extends ReportOptions {
  /** Most bytes of a result. */
  limit: number;
}

/** Builds the execution by handlers in this process. */
export function calling(handlers: ReadonlyMap<string, Handler>, options: CallOptions): Execute {
  return (running) => {
    const { job } = running;
    const handler = handlers.get(job.type) as Handler;
    const reports = new Reports(running, options);
    const work = () =>
      untilQuit(handler.run(readPayload(job.payload, job.options), contextOf(running, reports)), running);
    const verdict = judge(work, options.limit, () => running.stopped === 'deadline');
    return verdict instanceof Promise
      ? verdict.then((late) => finished(late, reports))
      : finished(verdict, reports);
  };
}

function finished(verdict: Verdict, reports: Reports): Verdict | Promise<Verdict> {
  return reports.finish()?.then(() => verdict) ?? verdict;
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

function contextOf(running: Running, reports: Reports): HandlerContext {
  const { job } = running;
  return {
    ...factsOf(job),
    last_checkpoint: job.checkpoint === null ? null : JSON.parse(job.checkpoint),
    get signal() {
      return running.signal;
    },
    progress: (value) => reports.progress(reportText(value)),
    checkpoint: async (value) => reports.checkpoint(checkpointText(value)),
    snooze,
  };
}

/** Waits for work, but no longer than until the start has to quit. What needs no waiting is handed back as it is. */
function untilQuit(work: unknown, running: Running): unknown {
  if (!isThenable(work)) return work;
  return new Promise((resolve, reject) => {
    running.quit = reject;
    work.then(resolve, reject);
  });
}
