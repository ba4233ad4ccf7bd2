// Takes a job in: joins the running flush and answers after its commit, so a 202 is a promise that has been kept already.
// Invariants: nothing is answered before the commit; an interrupted commit is said to be unknown, never refused.
// Next room: store/inserts.ts, whose one statement inserts job, block and idempotency key together.

import { isTerminal } from '../domain/job.ts';
import { type Callback, callbackType, type JobOptions, pushRoute } from '../domain/options.ts';
import { type PolicyAsk, type PolicyOf, policyFor, withAge } from '../domain/policy.ts';
import { Problem } from '../domain/problem.ts';
import type { EventBus } from '../events.ts';
import { DatabaseLost, type Pool, sqlState } from '../store/db.ts';
import { Flush } from '../store/flush.ts';
import { findIdempotent, type Inserted, insertJobs, type NewJob } from '../store/inserts.ts';
import type { Lanes } from '../store/lanes.ts';
import type { Guards } from './guards.ts';
import type { Kept } from './kept.ts';
import type { Keys } from './keys.ts';
import { retried } from './known.ts';
import { type Ready, slow_insert_ms } from './ready.ts';
import { isKeyed, keepEach, keepFree } from './unique.ts';

/** What a caller asks for; every option is resolved to its value. */
export interface Submission extends Omit<NewJob, 'lane' | 'options'> {
  queue: string;
  type: string;
  options: AskedOptions | null;
}

/** A submission whose policy is still to be found. */
export type Asking = Omit<Submission, keyof PolicyAsk> & PolicyAsk;

/** Gives a submission its policy. */
export function granted({ max_age_seconds, ...asking }: Asking, policyOf: PolicyOf): Submission {
  const policy = policyFor({ ...asking, max_age_seconds }, policyOf(asking.queue, asking.type));
  const { max_attempts, timeout_seconds, backoff } = policy;
  return { ...asking, max_attempts, timeout_seconds, backoff, options: withAge(asking.options, policy) };
}

/** Options as a caller gives them: which lanes they lead to is found here. */
export type AskedOptions = Omit<JobOptions, 'type' | 'callback'> & { callback?: Omit<Callback, 'lane'> };

/**
 * What became of it. `replayed`: another request made the job: the idempotency key named it, or, `deduplicated`, it holds
 * the unique key.
 */
export type Submitted =
  | {
      replayed: false;
      id: string;
      created_at: Date;
      run_at: Date | null;
      state: 'queued' | 'scheduled' | 'blocked';
      /** The holder it waits for. */
      blocked_by?: string;
    }
  | { replayed: true; deduplicated?: boolean; id: string };

export interface SubmitOptions {
  db: Pool;
  lanes: Lanes;
  ready: Ready;
  events: EventBus;
  keys: Keys;
  /** A job falls due in `ms`. */
  onLater: (ms: number) => void;
  /** Refuse what comes on top of too much. */
  guards: Pick<Guards, 'concerns' | 'refusal'>;
}

export type Submit = (submission: Submission) => Promise<Submitted>;

/**
 * Builds the verb. Throws Problems: `idempotency-key-reused`, `idempotency-in-flight`, `job-not-unique`, `outcome-unknown`,
 * 503s.
 */
export function submitting(options: SubmitOptions): Submit {
  const { db, lanes, ready, keys, guards } = options;
  // Those with a unique key have flushes of their own, in transactions: one for whose key is free, and one for those who
  // have to wait for whoever has it, so that nobody waits with them. These wait once: one after the other would take for ever.
  const keyed = (keep: typeof keepFree, inFlight: number, splits: (error: unknown) => boolean) =>
    new Flush<NewJob, Kept | undefined>({
      run: async (jobs) => {
        const began = performance.now();
        const all = await retried(() => db.transaction((tx) => keep(tx, jobs)));
        keys.tell(all, began);
        return all.kept;
      },
      inFlight,
      max: 100,
      gapMs: 0,
      maxWaiting: 5_000,
      splits,
    });
  const unique = keyed(keepFree, 2, isOneItemsFault);
  const patient = keyed(keepEach, 1, (error) => isOneItemsFault(error) && sqlState(error) !== '55P03');
  const flush = new Flush<NewJob, Inserted>({
    run: async (jobs) => {
      const began = performance.now();
      const { inserted, heads, first_block } = await insertJobs(db, jobs);
      const slow = performance.now() - began > slow_insert_ms;
      ready.announce(heads, slow ? BigInt(first_block) : null);
      return inserted;
    },
    // The running flush is the gap: what arrives meanwhile makes the next one large. The second is for when one is stuck.
    inFlight: 2,
    overtakeMs: 20,
    max: 500,
    gapMs: 0,
    maxWaiting: 5_000,
    splits: isOneItemsFault,
  });

  return async (submission) => {
    // Every await costs each submit; the usual one awaits its flush alone.
    const job = placedAtOnce(submission, lanes) ?? (await placed(submission, lanes));
    const key = job.idempotency;
    if (guards.concerns(submission.queue, submission.priority)) {
      const refusal = await guards.refusal(submission.queue);
      // What is there already is not taken in.
      const known = refusal === null || key === null ? undefined : await knownJob(db, key);
      if (known !== undefined) return told(submission, job.lane, { known }, options);
      if (refusal !== null) throw refusal;
    }
    if (isKeyed(job)) {
      const keeping = unique.add(job).then((kept) => kept ?? patient.add(job));
      const kept = await keeping.catch((error) => refuse(error, key !== null));
      return toldOf(submission, job.lane, kept as Kept, options);
    }
    let inserted: Inserted;
    try {
      inserted = await flush.add(job);
    } catch (error) {
      refuse(error, key !== null);
    }
    const found = inserted ?? { known: await replay(db, key as IdempotencyKey) };
    return told(submission, job.lane, found, options);
  };
}

type IdempotencyKey = NonNullable<NewJob['idempotency']>;

/** Says what became of a submission: to its caller, and to whoever listens. */
export function told(
  { queue, type }: Submission,
  lane: number,
  stored: (NonNullable<Inserted> & { blocked_by?: string | null }) | { known: string; held?: boolean },
  { events, onLater }: SubmitOptions,
): Submitted {
  if ('known' in stored) {
    const job = { job_id: stored.known, lane, queue, type };
    events.emit('job.submitted', { ...job, state: 'queued', replayed: true });
    return { replayed: true, deduplicated: stored.held === true, id: stored.known };
  }
  const { id, created_at, run_at, scheduled, blocked_by } = stored;
  const state = blocked_by ? 'blocked' : scheduled ? 'scheduled' : 'queued';
  if (run_at !== null) onLater(run_at.getTime() - created_at.getTime());
  events.emit('job.submitted', { job_id: id, lane, queue, type, state, replayed: false });
  return { replayed: false, id, created_at, run_at, state, ...(blocked_by ? { blocked_by } : {}) };
}

/** The same of one with a unique key; throws what it is refused with. `pointer`: where the request has the key, if it has. */
export function toldOf(
  submission: Submission,
  lane: number,
  kept: Kept,
  options: SubmitOptions,
  pointer: string | null = '#/unique/key',
): Submitted {
  switch (kept.kind) {
    case 'made':
      return told(submission, lane, { ...kept.made, blocked_by: kept.blocked_by }, options);
    case 'known':
      assertSame(kept.print, submission.idempotency as IdempotencyKey);
      return told(submission, lane, { known: kept.id }, options);
    case 'held':
      return told(submission, lane, { known: kept.id, held: true }, options);
    case 'refused':
      throw notUnique(kept, pointer);
  }
}

/** The 409 of a submit whose unique key another job holds. */
export function notUnique(
  { id, state }: Extract<Kept, { kind: 'refused' }>,
  pointer: string | null,
): Problem {
  const why =
    state === 'running'
      ? `job ${id} with this key runs`
      : isTerminal(state)
        ? `job ${id} with this key has ${state} and its window_seconds are not over`
        : `job ${id} with this key is ${state}`;
  const detail = `${why}; follow Location${pointer === null ? '' : ', or send another on_conflict'}`;
  return new Problem('job-not-unique', {
    detail,
    headers: { location: `/v1/jobs/${id}/status` },
    errors: pointer === null ? [] : [{ pointer, code: 'not_unique', detail }],
    job: { id, state },
  });
}

/** Gives a submission without options its lane, if this process has met it. */
function placedAtOnce(submission: Submission, lanes: Lanes): NewJob | undefined {
  if (submission.options !== null) return undefined;
  const lane = lanes.known(submission.queue, submission.type);
  return lane === undefined ? undefined : jobIn(lane.id, submission, null);
}

/** Gives a submission its lane; a job with a target stands in the line of what is pushed. */
export async function placed(submission: Submission, lanes: Lanes): Promise<NewJob> {
  const { queue, type, options } = submission;
  if (options === null) return jobIn((await lanes.named(queue, type)).id, submission, null);
  const { callback, ...rest } = options;
  const lane = await lanes.named(queue, rest.target === undefined ? type : pushRoute(type));
  const kept: JobOptions = {
    ...rest,
    ...(rest.target === undefined ? {} : { type }),
    ...(callback === undefined
      ? {}
      : { callback: { ...callback, lane: (await lanes.named(queue, pushRoute(callbackType))).id } }),
  };
  return jobIn(lane.id, submission, kept);
}

// Member by member: a copy by rest and spread costs several times as much.
function jobIn(lane: number, job: Submission, options: JobOptions | null): NewJob {
  return {
    lane,
    priority: job.priority,
    max_attempts: job.max_attempts,
    timeout_seconds: job.timeout_seconds,
    payload: job.payload,
    run_at: job.run_at,
    delay_ms: job.delay_ms,
    expires_at: job.expires_at,
    backoff: job.backoff,
    tags: job.tags,
    options,
    idempotency: job.idempotency,
  };
}

/** Data errors and lock waits concern one item; lost connections and missing resources concern all. */
function isOneItemsFault(error: unknown): boolean {
  return /^(2[123]|54|55P03|40)/.test(sqlState(error) ?? '');
}

/** Says why a submit was not stored, or that it is not known whether it was. */
export function refuse(error: unknown, hasKey: boolean): never {
  if (error instanceof DatabaseLost && error.sent) {
    throw new Problem('outcome-unknown', {
      detail: 'the database was lost during the commit; repeat the call with the same Idempotency-Key',
      headers: { 'retry-after': '2' },
      cause: error,
    });
  }
  if (hasKey && sqlState(error) === '55P03') throw inFlight(error);
  throw error;
}

/** The job an idempotency key already names; a key that was used for another request is refused. */
export async function replay(db: Pool, key: IdempotencyKey): Promise<string> {
  const known = await knownJob(db, key);
  if (known === undefined) throw inFlight();
  return known;
}

/** The job of a key, undefined when it names none; a key that was used for another request is refused. */
export async function knownJob(db: Pool, key: IdempotencyKey): Promise<string | undefined> {
  const row = await db.maybeOne(findIdempotent, [[key.tenant], [key.route], [key.key]]);
  if (row !== undefined) assertSame(row.print, key);
  return row?.job_id;
}

/** Throws `idempotency-key-reused` unless the key stands for the same request. */
export function assertSame(print: Buffer, { key, print: present }: IdempotencyKey): void {
  if (print.equals(present)) return;
  throw new Problem('idempotency-key-reused', {
    detail: `the Idempotency-Key "${key.replace(/#\d+$/, '')}" was used with another request; use a new key for a new request`,
  });
}

/** The 409 of a request whose twin has not committed yet. */
export function inFlight(cause?: unknown): Problem {
  return new Problem('idempotency-in-flight', {
    detail: 'another request with this Idempotency-Key has not committed yet; try again',
    headers: { 'retry-after': '1' },
    cause,
  });
}
