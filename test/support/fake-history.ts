// Why this room exists: the jobs of fake-actions.ts have a history like real ones, so that watching them can be tested.
// Next room: fake-actions.ts, which writes it.
import { isTerminal, type JobEvent } from '../../src/domain/job.ts';
import type { History, Mark, OutcomeStatus, StartFacts } from '../../src/domain/timeline.ts';
import type { FakeJob } from './fake-actions.ts';

/** A start under way. */
export const unended: Omit<StartFacts, 'epoch' | 'attempt' | 'worker' | 'started_at'> = {
  status: null,
  finished_at: null,
  next_at: null,
  class: null,
  source: null,
  http_status: null,
  error: null,
  fingerprint: null,
  created_uri: null,
  has_result: false,
};

/** How a start ended that something happened to. */
export const statusOf: Partial<Record<JobEvent, OutcomeStatus>> = {
  completed: 'succeeded',
  failed: 'retry',
  spent: 'dead',
  released: 'released',
  lost: 'lost',
  cancelled: 'cancelled',
  cancel_honoured: 'cancelled',
  expired: 'expired',
};

/** Ends the start under way, or, before any, the one that will never be. What is said of the end is read off the job. */
export function endStart({ facts, starts }: FakeJob, status: OutcomeStatus): void {
  const present = starts.at(-1);
  if (present?.status === null) Object.assign(present, { status, finished_at: new Date() });
  else {
    const never = { epoch: facts.epoch + 1, attempt: facts.attempt, worker: null, started_at: null };
    starts.push({ ...unended, ...never, status, finished_at: new Date() });
  }
}

/** The next write of progress or checkpoint. */
export function nextMark({ facts, progress, checkpoint }: FakeJob, value: string): Mark {
  const seq = Math.max(progress?.seq ?? 0, checkpoint?.seq ?? 0) + 1;
  return { epoch: facts.epoch, seq, at: new Date(), value };
}

/** What the store would answer. */
export function historyOf(job: FakeJob | undefined, since: number): History | undefined {
  if (job === undefined) return undefined;
  const { facts, progress, checkpoint, starts } = job;
  const { id, created_at, run_at, class: cause, source, http_status, error, next_at } = facts;
  const { created_uri, has_result } = facts;
  const last = { class: cause, source, http_status, error, next_at, created_uri, has_result };
  return {
    ...{ id, created_at, run_at, progress, checkpoint },
    blocked: false,
    scheduled: run_at !== null && run_at > created_at,
    terminal: isTerminal(facts.state),
    starts: starts
      .filter((start) => start.epoch >= since)
      .map((start) => (start === starts.at(-1) && start.status !== null ? { ...start, ...last } : start)),
    more: false,
  };
}
