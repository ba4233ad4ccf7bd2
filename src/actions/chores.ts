// What keeps jobs moving when nobody asks: every worker and dispatcher runs these, SKIP LOCKED makes that safe.
// Invariants: a lease that ran out always ends its start, so no job stays running without a live lease; a due job always
// becomes ready; each chore fails alone.
// Next room: roles/loop.ts, which runs them; store/endings.ts and store/claims.ts, whose statements they are.

import { defaultBackoff } from '../domain/backoff.ts';
import { fingerprintOf } from '../domain/fingerprint.ts';
import type { Heads } from '../domain/heads.ts';
import { isPushed, typeOf } from '../domain/options.ts';
import { afterFailure, errorText, stateAfter } from '../domain/outcome.ts';
import { prioAfterLoss } from '../domain/suspicion.ts';
import type { EventBus } from '../events.ts';
import { settleAndTell, type Told } from '../store/callbacks.ts';
import { findHeads, listHeads, promoteDue } from '../store/claims.ts';
import type { Pool } from '../store/db.ts';
import {
  type Abandoned,
  type Ending,
  findAbandoned,
  isTerminal,
  lowestLease,
  noDetails,
  type Settled,
} from '../store/endings.ts';
import { dueToExpire, forgetExpiring } from '../store/jobs.ts';
import type { Lanes } from '../store/lanes.ts';
import { addPartitions } from '../store/partitions.ts';
import { numbers } from '../store/sql.ts';
import type { Cancel } from './cancel.ts';
import type { Keys } from './keys.ts';
import { tellOfCallbacks } from './news.ts';
import type { Ready } from './ready.ts';

/**
 * A chore: `run` answers how much it moved, and when it wants to run again if sooner than `every_ms`, 0 = it left some.
 * A `thorough` run trusts nothing that an earlier one has seen: the clock may have been moved since.
 */
export interface Chore {
  name: string;
  every_ms: number;
  run(thorough: boolean): Promise<{ moved: number; again_ms?: number | undefined }>;
}

export interface ChoreOptions {
  db: Pool;
  lanes: Lanes;
  heads: Heads;
  ready: Ready;
  cancel: Cancel;
  events: EventBus;
  random: () => number;
  keys: Keys;
  onEnded: (ids: string[]) => void;
}

const batch = 500;
/** Seconds back that mean all. */
const everything = 1_000_000_000;
const full_ms = 10_000;
const longest_look_pause_ms = 2_000;

/** The chores of every worker and dispatcher. */
export function chores(options: ChoreOptions): Chore[] {
  return [
    promoting(options),
    rescuing(options),
    expiring(options),
    lookingForHeads(options),
    partitioning(options),
    options.keys.sweep,
  ];
}

/** Due jobs go from `later` into blocks. Looks a few seconds back, and all the way now and then: see docs/storage.md. */
function promoting({ db, ready, events, keys }: ChoreOptions): Chore {
  let fullAt = 0;
  return {
    name: 'promote',
    every_ms: 1_000,
    async run(thorough) {
      const now = performance.now();
      const full = thorough || now >= fullAt;
      const rows = await db.many(promoteDue, [batch, full ? everything : 5]);
      const moved = rows.reduce((sum, row) => sum + row.moved, 0);
      // A full batch says there is more behind it.
      if (moved >= batch) fullAt = 0;
      else if (full) fullAt = now + full_ms;
      const filled = rows.filter((row) => row.moved > 0);
      ready.announce(filled);
      for (const { lane, moved, retried } of filled) {
        tellDue(lane, 'scheduled', moved - retried, events);
        tellDue(lane, 'retrying', retried, events);
      }
      // After the others, on whom what becomes of these has no bearing.
      const gone = rows[0]?.blocked ? await keys.letBlockedGo(thorough) : { moved: 0, again_ms: undefined };
      const keyed = rows[0]?.keyed ? await keys.letDueIn() : { moved: 0, more: false };
      const next = [gone.again_ms, rows[0]?.next_ms].filter((ms) => typeof ms === 'number');
      if (moved >= batch || keyed.more) next.push(0);
      const again_ms = next.length === 0 ? undefined : Math.min(...next);
      return { moved: moved + gone.moved + keyed.moved, again_ms };
    },
  };
}

function tellDue(lane: number, from: 'scheduled' | 'retrying', jobs: number, events: EventBus): void {
  if (jobs === 0) return;
  events.emit('jobs.moved', { jobs, from: { lane, state: from }, to: { lane, state: 'queued' } });
}

/** Leases that ran out end their starts: lost ones run again at once, overdue ones after their backoff. */
function rescuing({ db, lanes, ready, events, random, onEnded }: ChoreOptions): Chore {
  const routeOf = async (lane: number) => (lanes.peek(lane) ?? (await lanes.get(lane))).route;
  let floor = '0';
  let lowest = '0';
  let turn = 0;
  return {
    name: 'rescue',
    every_ms: 1_000,
    async run(thorough) {
      // Dead entries of leases that are gone need not be read again. Ids are given before their rows commit, so the floor
      // is what was lowest ten turns ago: longer than any statement runs.
      if (!thorough && turn++ % 10 === 0) {
        floor = turn % 60 === 1 ? '0' : lowest;
        lowest = (await db.one(lowestLease, [floor])).id ?? floor;
      }
      const types = new Map<string, string>();
      const { endings, settled, told } = await db.transaction(async (tx) => {
        const found = await tx.many(findAbandoned, [thorough ? '0' : floor, 100]);
        const open = found.filter((one) => one.job_id !== null);
        const endings: Ending[] = [];
        for (const one of open) {
          endings.push(endingOf(one, await routeOf(one.lane), random));
          if (one.type !== null) types.set(one.job_id as string, one.type);
        }
        if (found.length === 0) return { endings, settled: [] as Settled[], told: [] as Told[] };
        const leases = [...new Set(found.map((one) => one.lease))];
        return { endings, ...(await settleAndTell(tx, endings, leases)) };
      });
      tellOfCallbacks(told, { ready, events });
      await tell(settled, endings, types, { lanes, ready, events, onEnded });
      return { moved: settled.length, again_ms: endings.length >= 100 ? 0 : undefined };
    },
  };
}

/** A push that was lost says nothing against its job: the process that died ran none of the job's own code. */
function endingOf(lost: Abandoned, route: string, random: () => number): Ending {
  if (lost.cancel_requested) return cancelledEnding(lost);
  const pushed = isPushed(route);
  const poison = !lost.overdue && !pushed && lost.losses >= 2;
  const cause = lost.overdue ? 'timeout' : poison ? 'poison' : 'lost';
  const { attempt, max_attempts, backoff } = lost;
  const message = lost.overdue
    ? 'the attempt ran longer than timeout_seconds'
    : poison
      ? 'three workers in a row were lost while they ran this job'
      : 'the worker stopped renewing its lease';
  const next = afterFailure({
    class: cause,
    attempt,
    max_attempts,
    retry_after_seconds: null,
    cancel_requested: false,
    left_ms: lost.left_ms,
    backoff: backoff ?? defaultBackoff,
    random,
  });
  return {
    ...noDetails,
    start: { ...lost, job_id: lost.job_id as string },
    status: next.outcome !== 'retry' ? 'dead' : lost.overdue || pushed ? 'retry' : 'lost',
    class: cause,
    source: 'errand',
    error: errorText(message, next),
    fingerprint: fingerprintOf({
      ...{ type: lost.type ?? typeOf(route), class: cause, source: 'errand' },
      ...{ http_status: null, message, place: null },
    }),
    delay_ms: next.outcome === 'retry' ? next.delay_ms : null,
  };
}

/** Nobody is left to obey the cancel: the end of the lease is its end. */
function cancelledEnding(lost: Abandoned): Ending {
  return {
    ...noDetails,
    start: { ...lost, job_id: lost.job_id as string },
    status: 'cancelled',
    source: 'errand',
    error: 'cancelled while it ran; its worker was lost',
  };
}

async function tell(
  settled: readonly Settled[],
  endings: readonly Ending[],
  types: ReadonlyMap<string, string>,
  { lanes, ready, events, onEnded }: Pick<ChoreOptions, 'lanes' | 'ready' | 'events' | 'onEnded'>,
): Promise<void> {
  onEnded(settled.filter(isTerminal).map((one) => one.job_id));
  const byJob = new Map(endings.map((ending) => [ending.start.job_id, ending]));
  for (const { job_id, epoch, status } of settled) {
    const { start, class: cause, delay_ms } = byJob.get(job_id) as Ending;
    if (status === 'lost') ready.announce([{ lane: start.lane, prio: prioAfterLoss(start.prio) }]);
    else if (status === 'retry') ready.announce([{ lane: start.lane, prio: start.prio % 10 }]);
    const { queue, route } = await lanes.get(start.lane);
    events.emit('job.ended', {
      job_id,
      lane: start.lane,
      queue,
      type: types.get(job_id) ?? route,
      epoch,
      attempt: start.attempt,
      outcome: status,
      class: cause,
      run_ms: null,
      from: 'running',
      to: stateAfter(status, start.attempt, delay_ms),
    });
  }
}

/** Jobs that wait past their expires_at end. One that runs keeps its row and is looked at again. */
function expiring({ db, cancel }: ChoreOptions): Chore {
  let fullAt = 0;
  return {
    name: 'expire',
    every_ms: 2_000,
    async run(thorough) {
      const full = thorough || performance.now() >= fullAt;
      if (full) fullAt = performance.now() + full_ms;
      const rows = await db.many(dueToExpire, [batch, full ? everything : 5]);
      const done: string[] = [];
      for (const { job_id } of rows) {
        const { kind } = await cancel.expire(job_id);
        if (kind !== 'started') done.push(job_id);
      }
      if (done.length > 0) await db.many(forgetExpiring, [done]);
      return { moved: done.length, again_ms: done.length >= batch ? 0 : undefined };
    },
  };
}

/**
 * The floor under all hints: what stands ready is found within a poll. It looks behind the cursors of claims, from the
 * beginning now and then, and rarer where looking is dear.
 */
function lookingForHeads({ db, heads, ready }: ChoreOptions): Chore {
  let next = 0;
  let fullAt = 0;
  return {
    name: 'look',
    every_ms: 1_000,
    async run(thorough) {
      const began = performance.now();
      if (began < next && !thorough) return { moved: 0 };
      const full = thorough || began >= fullAt;
      if (full) fullAt = began + full_ms;
      const found = await (full ? db.many(listHeads) : db.many(findHeads, cursorsOf(heads)));
      const took = performance.now() - began;
      next = took > 20 ? began + Math.min(took * 100, longest_look_pause_ms) : 0;
      ready.found(found);
      return { moved: found.length };
    },
  };
}

/** Of all heads this process has met, and of the beginning. */
function cursorsOf(heads: Heads): string[] {
  const known = [{ lane: 0, prio: 0, cursor: '0' }, ...heads.known()];
  return [
    numbers(known.map((head) => head.lane)),
    numbers(known.map((head) => head.prio)),
    numbers(known.map((head) => head.cursor)),
  ];
}

/** Room for jobs to come. */
function partitioning({ db }: ChoreOptions): Chore {
  return { name: 'partitions', every_ms: 10_000, run: async () => ({ moved: await addPartitions(db) }) };
}
