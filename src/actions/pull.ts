// The lease protocol as a pull worker sees it: lease, heartbeat, complete, fail, release. Handlers inside the process end
// their starts through the same settle.ts, so both ways of running share one guarantee.
// Invariants: a handle this server did not issue, or whose start has ended otherwise, is refused with `lease-lost`; a call
// repeated after its success succeeds again.
// Next room: claim.ts and settle.ts.
import { type BackoffPolicy, defaultBackoff } from '../domain/backoff.ts';
import { fingerprintOf, placeOfUrl } from '../domain/fingerprint.ts';
import type { Heads } from '../domain/heads.ts';
import { issueLeaseId, readLeaseId } from '../domain/lease-id.ts';
import { isPushed, typeOf } from '../domain/options.ts';
import { afterFailure, type ErrorClass, errorText, leftMs, reasonText } from '../domain/outcome.ts';
import { pulls } from '../domain/patterns.ts';
import { Problem } from '../domain/problem.ts';
import type { Start } from '../domain/start.ts';
import { type Ending, noDetails, type Settled } from '../store/endings.ts';
import type { Lane, Lanes, Workers } from '../store/lanes.ts';
import type { Claim, Job } from './claim.ts';
import { coalescing, type OneAsk } from './coalesce.ts';
import type { HandOver, Standing } from './hand-over.ts';
import type { Beat, Heartbeat } from './heartbeat.ts';
import type { Inspect } from './inspect.ts';
import type { Progress, Reached } from './progress.ts';
import type { Ready } from './ready.ts';
import type { Settle } from './settle.ts';
import type { Waiters } from './wait.ts';

/** What a pull worker asks for. Queues and types may end in `*`; empty = all. */
export interface LeaseAsk {
  worker: string;
  /** Of its program; for people. */
  version?: string | undefined;
  queues: readonly string[];
  types: readonly string[];
  limit: number;
  lease_seconds: number;
  wait_ms: number;
  /** Aborts when the caller has gone. */
  signal?: AbortSignal;
}

/** A job in the hands of a pull worker. */
export type Leased = Job & { lease_id: string };

export interface Failing {
  class: Exclude<ErrorClass, 'timeout' | 'lost'>;
  message: string | null;
  retry_after_seconds: number | null;
  /** Where it happened, in the worker's words. */
  place?: string | undefined;
}

export interface Pull {
  lease(ask: LeaseAsk): Promise<Leased[]>;
  heartbeat(lease_id: string, lease_seconds: number): Promise<Beat>;
  /** Says how far the start has come; answers when that is kept. */
  report(lease_id: string, reached: Reached): Promise<void>;
  /** Ends a start with success; `result` is JSON text as it was sent. Answers with the job's id. */
  complete(lease_id: string, end: { result: string | null; created_uri: string | null }): Promise<string>;
  fail(lease_id: string, failing: Failing): Promise<Settled>;
  /** Gives the job back unrun: the attempt does not count. */
  release(lease_id: string, delay_seconds: number): Promise<Settled>;
  /** Ends the start because the job wants to run later: the attempt does not count. */
  snooze(lease_id: string, delay_seconds: number): Promise<Settled>;
}

export interface PullOptions {
  claim: Claim;
  heartbeat: Heartbeat;
  standing: HandOver['standing'];
  progress: Progress;
  settle: Settle;
  inspect: Inspect;
  lanes: Lanes;
  workers: Workers;
  ready: Ready;
  heads: Heads;
  waiters: Waiters;
  /** The first seals, all open. */
  secrets: readonly Buffer[];
  random: () => number;
  now: () => Date;
}

export function pulling(options: PullOptions): Pull {
  const { claim, heartbeat, progress, settle, inspect, lanes, workers, ready, heads, waiters, random, now } =
    options;

  const lanesOf = (queues: readonly string[], types: readonly string[]) => matching(lanes, queues, types);
  const leaseOne = coalescing({ claim, ready, heads, lanesOf });

  async function end(start: Start, how: Omit<Ending, 'start'>): Promise<Settled> {
    const lane = lanes.peek(start.lane) ?? (await lanes.get(start.lane));
    const named = { queue: lane.queue, type: typeOf(lane.route) };
    const settled = await underItsLease(start, lane, (start) => settle({ start, ...how }, named));
    if (settled === null) throw lost();
    return settled;
  }

  /**
   * Does something with a start under the lease it stands in; null = refused. A job that its target took over has another
   * than the one its lease id names, and may be handed over while this is on its way.
   */
  async function underItsLease<T>(
    start: Start,
    lane: Lane,
    act: (start: Start, standing: Standing | null) => Promise<T | null>,
  ): Promise<T | null> {
    if (!isPushed(lane.route)) return act(start, null);
    const found = await options.standing(start);
    const done = await act(found?.start ?? start, found);
    if (done !== null || found === null) return done;
    const moved = await options.standing(start);
    return moved === null || moved.start.lease === found.start.lease ? null : act(moved.start, moved);
  }

  async function leaseSeveral(
    { owner, queues, types, limit, lease_seconds }: OneAsk & { limit: number },
    over: Promise<unknown> | null,
  ): Promise<Job[]> {
    let woken = wakeUp(ready);
    try {
      for (;;) {
        const jobs = await claim({
          owners: [owner],
          lanes: lanesOf(queues, types),
          want: limit,
          alone: true,
          lease_seconds,
        });
        if (jobs.length > 0 || over === null) return jobs;
        if ((await Promise.race([woken.promise, over])) !== 'ready') return [];
        woken = wakeUp(ready);
      }
    } finally {
      woken.stop();
    }
  }

  function seal(start: Start): string {
    return issueLeaseId(start, options.secrets[0] as Buffer);
  }

  function open(lease_id: string): Start {
    const start = readLeaseId(lease_id, options.secrets);
    if (start === null) throw lost();
    return start;
  }

  return {
    async lease({ worker, version: _, limit, wait_ms, signal, ...wish }) {
      const ask = { ...wish, owner: await workers.named(worker) };
      const done = new AbortController();
      const over = wait_ms > 0 ? waiters.hold(null, wait_ms, either(done.signal, signal)) : null;
      try {
        const jobs = await (limit === 1 ? leaseOne(ask, over) : leaseSeveral({ ...ask, limit }, over));
        return jobs.map((job) => Object.assign(job, { lease_id: seal(job) }));
      } finally {
        done.abort();
      }
    },

    async heartbeat(lease_id, lease_seconds) {
      const start = open(lease_id);
      const answer = await underItsLease<Beat>(start, await lanes.get(start.lane), async (start, standing) =>
        // While the request to its target is open the pusher keeps the lease, and with it those of other targets.
        standing?.shared ? standing : heartbeat(start, lease_seconds),
      );
      if (answer === null) throw lost();
      return answer;
    },

    async report(lease_id, reached) {
      const start = open(lease_id);
      const kept = await underItsLease(
        start,
        await lanes.get(start.lane),
        async (start) => (await progress(start, reached)) || null,
      );
      if (kept === null) throw lost();
    },

    async complete(lease_id, { result, created_uri }) {
      const start = open(lease_id);
      await end(start, { ...noDetails, status: 'succeeded', result, created_uri });
      return start.job_id;
    },

    async fail(lease_id, failing) {
      const start = open(lease_id);
      const facts = await inspect.job(start.job_id);
      if (facts === undefined) throw lost();
      const { type, options } = facts;
      const message = failing.message === null ? null : reasonText(failing.message);
      const place = failing.place ?? (options?.target === undefined ? null : placeOfUrl(options.target.url));
      const next = afterFailure({
        ...failing,
        attempt: start.attempt,
        max_attempts: facts.max_attempts,
        cancel_requested: facts.cancel_requested,
        left_ms: leftMs(facts, now()),
        backoff: (facts.backoff as BackoffPolicy | null) ?? defaultBackoff,
        random,
      });
      return end(start, {
        ...noDetails,
        status: next.outcome,
        class: failing.class,
        source: 'worker',
        error: errorText(message, next),
        fingerprint: fingerprintOf({ ...failing, type, source: 'worker', http_status: null, message, place }),
        delay_ms: next.outcome === 'retry' ? next.delay_ms : null,
      });
    },

    release: (lease_id, delay_seconds) =>
      end(open(lease_id), { ...noDetails, status: 'released', delay_ms: delay_seconds * 1_000 }),

    snooze: (lease_id, delay_seconds) =>
      end(open(lease_id), { ...noDetails, status: 'snoozed', delay_ms: delay_seconds * 1_000 }),
  };
}

function lost(): Problem {
  return new Problem('lease-lost', {
    detail: 'this lease does not stand any more; stop the work, drop its result and lease again',
  });
}

/** The lanes of what a pull worker asks for. */
function matching(lanes: Lanes, queues: readonly string[], types: readonly string[]): Set<number> {
  const chosen = new Set<number>();
  for (const lane of lanes.all()) {
    if (pulls(lane, { queues, types })) chosen.add(lane.id);
  }
  return chosen;
}

function either(one: AbortSignal, other: AbortSignal | undefined): AbortSignal {
  return other === undefined ? one : AbortSignal.any([one, other]);
}

/** Resolves at the next sign of work, once; listening begins before the look, so no sign falls between. */
function wakeUp(ready: Ready): { promise: Promise<'ready'>; stop: () => void } {
  const { promise, resolve } = Promise.withResolvers<'ready'>();
  const stop = ready.on(() => {
    stop();
    resolve('ready');
  });
  return { promise, stop };
}
