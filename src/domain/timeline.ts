// What has happened to a job, as events in order, read off the facts that are kept anyway: nothing is written for them.
// Invariants: an event has the same id whoever reads it and whenever, and no event comes to stand before one that could be
// read already; so whoever names the last one it has seen is told each later one, once.
// Next room: store/history.ts, which reads the facts; http/events.ts, which tells.
import { isTerminal, type JobState, type TerminalState } from './job.ts';
import type { ErrorClass, ErrorSource } from './outcome.ts';
import { errorBody, msBetween, type NamedFacts } from './record.ts';

/** How a start ended, as it is recorded. */
export type OutcomeStatus = TerminalState | 'retry' | 'lost' | 'released' | 'snoozed';

/** What is recorded of one start; `status` null: it is under way; `started_at` null: it was over before it started. */
export interface StartFacts {
  epoch: number;
  attempt: number;
  status: OutcomeStatus | null;
  worker: string | null;
  started_at: Date | null;
  finished_at: Date | null;
  next_at: Date | null;
  class: ErrorClass | null;
  source: ErrorSource | null;
  http_status: number | null;
  error: string | null;
  fingerprint: string | null;
  created_uri: string | null;
  has_result: boolean;
}

/** The latest progress or checkpoint: its place among the writes of both, and the JSON that was sent. */
export interface Mark {
  epoch: number;
  seq: number;
  at: Date;
  value: string;
}

/** What is known of the way of a job from some start on. */
export interface History {
  id: string;
  created_at: Date;
  run_at: Date | null;
  /** Whether it was made to wait for `run_at`. */
  scheduled: boolean;
  /** Whether it was made to wait for the holder of its key. */
  blocked: boolean;
  terminal: boolean;
  /** In order, without gaps. */
  starts: readonly StartFacts[];
  /** Whether the last of them was read only to know where the one before ends; it belongs to the next page. */
  more: boolean;
  progress: Mark | null;
  checkpoint: Mark | null;
}

/** One event; `data` is JSON text, because progress is told as it was sent. */
export interface TimelineEvent {
  id: string;
  event: 'state' | 'progress' | 'checkpoint' | 'done';
  data: string;
}

/** A place in the order of events: created is 1, start n is 2n, its end 2n + 1; writes during it are 2n with their seq. */
export interface Position {
  readonly step: number;
  readonly seq: number;
}

/** Before everything. */
export const beginning: Position = { step: 0, seq: 0 };

/** Starts that a record can show. */
export const most_attempts = 100;

/** The form of the id of an event; short enough that its epoch is a Postgres integer. */
export const eventIdPattern = /^(0|[1-9][0-9]{0,8})(?:\.([1-9][0-9]{0,8}))?$/;

/** Reads the id of an event; null when it cannot be one. */
export function positionOf(id: string): Position | null {
  const found = eventIdPattern.exec(id);
  return found === null ? null : { step: Number(found[1]), seq: Number(found[2] ?? 0) };
}

/** Writes a position as the id of an event. */
export function nameOf({ step, seq }: Position): string {
  return seq > 0 ? `${step}.${seq}` : String(step);
}

/** The start from which the history is needed to tell what comes after a position, and whether there is such a position. */
export function epochOf(position: Position): number {
  return Math.floor(position.step / 2);
}

/** Whether a position lies beyond everything that has happened: nobody can have been told of it. */
export function isAhead(history: History, position: Position): boolean {
  return !placesOf(history, history.starts).some(({ at }) => !follows(position, at)) && position.step > 0;
}

/** Everything after a position, in order. */
export function eventsAfter(history: History, after: Position): TimelineEvent[] {
  const starts = history.more ? history.starts.slice(0, -1) : history.starts;
  const next = history.starts[starts.length]?.epoch ?? Number.POSITIVE_INFINITY;
  return placesOf(history, starts)
    .filter(({ at }) => follows(at, after) && at.step < 2 * next)
    .sort((a, b) => (follows(a.at, b.at) ? 1 : -1))
    .map(({ at, event, data }) => ({ id: nameOf(at), event, data }));
}

/** Starts of a job, newest first, with the one under way: `?include=attempts`. */
export function attemptsOf(facts: NamedFacts, past: readonly StartFacts[]) {
  const { state, epoch, attempt, worker, started_at } = facts;
  const isUnderWay = state === 'running' && past[0]?.epoch !== epoch;
  const present = isUnderWay ? [{ ...underWay, epoch, attempt, worker, started_at }] : [];
  return [...present, ...past].slice(0, most_attempts).map((start) => ({
    epoch: start.epoch,
    attempt: start.attempt,
    outcome: start.status,
    worker: start.worker,
    started_at: start.started_at,
    finished_at: start.finished_at,
    run_ms: msBetween(start.started_at, start.finished_at),
    class: start.class,
    source: start.source,
    http_status: start.http_status,
    detail: start.error,
    fingerprint: start.fingerprint,
    next_attempt_at: start.next_at,
  }));
}

const underWay = {
  status: null,
  finished_at: null,
  next_at: null,
  class: null,
  source: null,
  http_status: null,
  error: null,
  fingerprint: null,
};

interface Placed {
  at: Position;
  event: TimelineEvent['event'];
  data: string;
}

function placesOf(history: History, starts: readonly StartFacts[]): Placed[] {
  const marks = [markEvent(history, 'progress'), markEvent(history, 'checkpoint')];
  return [createdEvent(history), ...starts.flatMap((start) => eventsOf(history, start)), ...marks].filter(
    (one) => one !== null,
  );
}

function follows(one: Position, other: Position): boolean {
  return one.step > other.step || (one.step === other.step && one.seq > other.seq);
}

function createdEvent({ scheduled, blocked, created_at, run_at }: History): Placed {
  const due = scheduled && run_at !== null ? { next_attempt_at: run_at } : {};
  const state: JobState = blocked ? 'blocked' : scheduled ? 'scheduled' : 'queued';
  return placed(1, 'state', { state, attempt: 0, epoch: 0, at: created_at, ...due });
}

function eventsOf(history: History, start: StartFacts): Placed[] {
  const { epoch, attempt, started_at, worker, status } = start;
  const running = { state: 'running', attempt, epoch, at: started_at, worker };
  const begun = started_at === null ? [] : [placed(2 * epoch, 'state', running)];
  return status === null ? begun : [...begun, endEvent(history, start, status)];
}

function endEvent({ id }: History, start: StartFacts, status: OutcomeStatus): Placed {
  const { epoch, finished_at: at } = start;
  const { state, counted } = leftBy(start, status);
  const error = errorBody({ ...start, state });
  if (isTerminal(state)) {
    const result = start.has_result ? `/v1/jobs/${id}/result` : null;
    const end = { state, attempt: counted, epoch, at, result, created: start.created_uri, error };
    return placed(2 * epoch + 1, 'done', end);
  }
  const due = state === 'queued' ? {} : { next_attempt_at: start.next_at };
  const failed = error === null ? {} : { error };
  return placed(2 * epoch + 1, 'state', { state, attempt: counted, epoch, at, ...failed, ...due });
}

/** What a start left behind: the state of the job, and how many starts have counted. */
function leftBy(start: StartFacts, status: OutcomeStatus): { state: JobState; counted: number } {
  const { attempt, next_at, finished_at } = start;
  const isReturned = status === 'released' || status === 'snoozed';
  if (!isReturned && status !== 'retry' && status !== 'lost') return { state: status, counted: attempt };
  const counted = isReturned ? attempt - 1 : attempt;
  const waits = next_at !== null && finished_at !== null && next_at > finished_at;
  return { state: !waits ? 'queued' : counted > 0 ? 'retrying' : 'scheduled', counted };
}

function markEvent(history: History, event: 'progress' | 'checkpoint'): Placed | null {
  const mark = history[event];
  if (mark === null) return null;
  const { epoch, seq, at, value } = mark;
  // The value is JSON already, and leaves as it came.
  const data = `${JSON.stringify({ epoch, at }).slice(0, -1)},"${event}":${value}}`;
  return { at: { step: 2 * epoch, seq }, event, data };
}

function placed(step: number, event: TimelineEvent['event'], data: object): Placed {
  return { at: { step, seq: 0 }, event, data: JSON.stringify(data) };
}
