// Everything that happens, said once: the code emits facts, telemetry prints and counts them, tests await them.
// Next room: telemetry/, which subscribes.
import type { Limit } from './domain/guard.ts';
import type { JobState } from './domain/job.ts';
import type { SlotOutcome, SlotReason } from './domain/schedule.ts';
import type { KeptState } from './domain/tally.ts';

/** What is told of a job's end or of an attempt's. Times are in ms. */
export interface AttemptEnd {
  job_id: string;
  lane: number;
  queue: string;
  type: string;
  epoch: number;
  attempt: number;
  outcome: 'succeeded' | 'dead' | 'cancelled' | 'expired' | 'retry' | 'lost' | 'released' | 'snoozed';
  class: string | null;
  run_ms: number | null;
  /** The state it left, and the one it is in now. */
  from: JobState;
  to: JobState;
}

/** Where jobs stand: those in the state `dead` are dead letters that nobody has dealt with. */
export interface Standing {
  lane: number;
  state: JobState;
}

/** Every event and what it carries. */
export interface Events {
  'job.submitted': {
    job_id: string;
    lane: number;
    queue: string;
    type: string;
    state: JobState;
    replayed: boolean;
  };
  'job.claimed': {
    job_id: string;
    lane: number;
    queue: string;
    type: string;
    epoch: number;
    attempt: number;
    wait_ms: number;
  };
  /** A job fell due while another held its unique key: it waits for that one. */
  'job.parked': { job_id: string };
  /** A start reported progress or a checkpoint. */
  'job.progressed': { job_id: string };
  /** A handler reported a progress that cannot be kept. */
  'progress.dropped': { job_id: string; queue: string; type: string; epoch: number; why: string };
  'job.ended': AttemptEnd;
  /** Jobs changed their state or lane by other ways than submit, claim and end; null: they were, or are, not there. */
  'jobs.moved': { jobs: number; from: Standing | null; to: Standing | null };
  /** `outcome`: succeeded, handed_over, the class of the failure, or aborted: cut by us. */
  'target.answered': {
    job_id: string;
    queue: string;
    type: string;
    outcome: string;
    http_status: number | null;
    took_ms: number;
  };
  'lease.refused': { job_id: string; epoch: number; verb: string };
  'invariant.violated': { what: string; job_id?: string };
  /** A slot was written to the ledger: one, or `slots` that were skipped together; null = more than were counted. */
  'slot.decided': {
    schedule: string;
    slot: Date;
    due_at: Date;
    outcome: SlotOutcome;
    reason: SlotReason | null;
    job_id: string | null;
    slots: number | null;
    lateness_ms: number;
  };
  /** A schedule could not be fired; it is tried again. */
  'schedule.failed': { schedule: string; error: unknown };
  /** A step of an operation came to this, for so many jobs. */
  'operation.stepped': { operation: string; kind: string; outcome: string; items: number };
  /** An operation went on to another state or phase. */
  'operation.moved': { operation: string; kind: string; state: string; phase: string };
  /** A step failed; it is tried again, or waits for somebody. */
  'operation.failed': { operation: string; kind: string; error: unknown };
  'leader.elected': { term: string };
  'leader.lost': { term: string; why: string };
  /** What was to be written in a term that is over was not written. */
  'term.fenced': { term: string };
  /** A queue takes no more jobs, and why; null: it does again. */
  'guard.moved': { queue: string; closed_by: Limit | null };
  /** A recount found other jobs than were counted: by how many the counter was wrong. It is mended. */
  'counter.drifted': { queue: string; type: string; state: KeptState; by: number };
  /** Jobs of a type in a queue are more than can be recounted within a statement's time. */
  'recount.gave_up': { queue: string; type: string };
  'hint.sent': { ids: number };
  'hint.received': { ids: number };
  'chore.failed': { chore: string; error: unknown };
  'chore.ran': { chore: string; moved: number };
  'store.error': { where: string; error: unknown };
  /** A request was answered 503: for load, or with the slug of a problem. */
  'http.refused': { reason: string };
  'http.error': { request_id: string; error: unknown };
  'service.said': { level: 'info' | 'warn' | 'error'; message: string; [field: string]: unknown };
}

type Listener<Name extends keyof Events> = (event: Events[Name]) => void;

/** A typed emitter small enough to be read; a listener that throws never reaches the one who emits. */
export class EventBus {
  #listeners = new Map<keyof Events, Set<Listener<never>>>();

  on<Name extends keyof Events>(name: Name, listener: Listener<Name>): () => void {
    const set = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, set);
    set.add(listener as Listener<never>);
    return () => set.delete(listener as Listener<never>);
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    const set = this.#listeners.get(name);
    if (set === undefined) return;
    for (const listener of set) {
      try {
        (listener as Listener<Name>)(event);
      } catch (error) {
        process.emitWarning(error instanceof Error ? error : String(error));
      }
    }
  }
}
