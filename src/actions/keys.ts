// What happens to keys when nobody submits: due jobs are let in one by one, those that wait for a holder go on when it lets
// go, keys that nobody holds are forgotten; and what a submit did to a key is told.
// Invariants: a conflict parks one job and delays no other; a holder that ended, however and wherever, is noticed: at once
// where it ended in a process that knows who waits, else by the walk over awaited keys, each second while they are few.
// Next room: store/unique.ts; unique.ts decides about submits.
import { tenant } from '../domain/tenant.ts';
import { goesOn, holds } from '../domain/unique.ts';
import type { EventBus } from '../events.ts';
import type { Pool } from '../store/db.ts';
import type { Lanes } from '../store/lanes.ts';
import {
  findDueKeyed,
  findHolders,
  type Held,
  type LetGo,
  type LetIn,
  letInDue,
  listAwaitedKeys,
  lockFreeKeys,
  makeKeys,
  setHolders,
  sweepKeys,
} from '../store/unique.ts';
import type { Chore } from './chores.ts';
import { letFirstGo } from './holders.ts';
import type { KeptAll } from './kept.ts';
import { tellOfCallbacks } from './news.ts';
import { type Ready, slow_insert_ms } from './ready.ts';

export interface Keys {
  /** Tells what a transaction did, once it has committed; it began at this moment of the monotonic clock. */
  tell(all: KeptAll, began: number): void;
  /** A start of a job ended: if others wait for the job, they are looked at now. */
  heardEnd(job_id: string): void;
  /** Lets due jobs with a key in; answers how many were moved, and whether there are more. */
  letDueIn(): Promise<{ moved: number; more: boolean }>;
  /**
   * Those who wait for a holder that has let go of its key go on, one for each key; answers how many, and when to look on
   * where there are more keys than one look is for.
   */
  letBlockedGo(thorough: boolean): Promise<{ moved: number; again_ms: number | undefined }>;
  /** Forgets keys that nobody holds. */
  sweep: Chore;
}

export interface KeysOptions {
  db: Pool;
  lanes: Lanes;
  ready: Ready;
  events: EventBus;
  onEnded: (ids: string[]) => void;
  /** A job falls due in `ms`. */
  onLater: (ms: number) => void;
  /** A holder for which somebody waits may have let go. */
  onFree: () => void;
  onError: (error: unknown) => void;
}

const batch = 100;
const page = 500;
/** From the beginning of a walk over few keys to the next; less than the pause of the chore. */
const pause_ms = 900;
/** Holders for which somebody waits that are known here, at most; the others are found by looking. */
const most_known = 10_000;

export function keeping(options: KeysOptions): Keys {
  const { db, ready, onEnded, onFree } = options;
  /** Holders for which somebody waits, with their keys. */
  let awaited = new Map<string, string>();
  /** Those of the walk before, which this one has not met yet. */
  let formerly: ReadonlyMap<string, string> = awaited;
  const freed = new Set<string>();
  /** Where the walk over keys for which jobs wait goes on, and when. */
  let last = '';
  let walkAt = 0;

  return {
    tell(all, began) {
      const slow = all.first_block !== null && performance.now() - began > slow_insert_ms;
      ready.announce(all.heads, slow ? BigInt(all.first_block as string) : null);
      for (const { ord, ...head } of all.places) ready.announce([head], BigInt(ord));
      tellOfCallbacks(all.callbacks, options);
      tellGone(all.gone, options);
      if (all.superseded.length > 0) {
        onEnded(all.superseded.map(({ id }) => id));
        void tellSuperseded(all, options).catch(options.onError);
      }
      for (const { holder, key } of all.waits) remember(holder, key);
      lookAt(all.waits.map(({ key }) => key));
    },
    heardEnd(job_id) {
      const key = awaited.get(job_id) ?? formerly.get(job_id);
      if (key === undefined) return;
      awaited.delete(job_id);
      lookAt([key]);
    },
    async letDueIn() {
      const due = await db.many(findDueKeyed, [batch]);
      if (due.length === 0) return { moved: 0, more: false };
      const moved = await db.transaction(async (tx) => {
        const keys = [...new Set(due.map(({ key }) => key))];
        await tx.many(makeKeys, [tenant, keys]);
        const free = (await tx.many(lockFreeKeys, [tenant, keys])).map(({ key }) => key);
        // Who waits already goes before who falls due now.
        const gone = await letFirstGo(tx, await tx.many(findHolders, [tenant, free]));
        const holders = new Map((await tx.many(findHolders, [tenant, free])).map((one) => [one.key, one]));
        const asked = sorted(due, holders);
        const letIn = await tx.many(letInDue, [
          asked.map(({ job_id }) => job_id),
          asked.map(({ key }) => key),
          asked.map(({ parks }) => parks),
          tenant,
        ]);
        const next = letIn.filter(({ parked }) => !parked);
        if (next.length > 0) {
          await tx.many(setHolders, [tenant, next.map(({ key }) => key), next.map(({ job_id }) => job_id)]);
        }
        return { letIn, gone };
      });
      announce(moved.letIn);
      announce(moved.gone);
      tellGone(moved.gone, options);
      tellLetIn(moved.letIn, options.events);
      lookAt(moved.letIn.filter(({ parked }) => parked).map(({ key }) => key));
      const count = moved.letIn.length + moved.gone.length;
      return { moved: count, more: due.length >= batch && count > 0 };
    },
    async letBlockedGo(thorough) {
      const began = performance.now();
      const urgent = [...freed].slice(0, page);
      for (const key of urgent) freed.delete(key);
      const walks = thorough || began >= walkAt;
      const keys = [...new Set([...urgent, ...(walks ? await nextPage() : [])])];
      const moved = keys.length === 0 ? 0 : await letGoOf(keys);
      const now = performance.now();
      // As long a pause as a look takes: many keys must not keep the database busy.
      if (walks) walkAt = last === '' ? began + pause_ms : now + (now - began);
      return { moved, again_ms: freed.size > 0 ? 0 : last === '' ? undefined : Math.max(1, walkAt - now) };
    },
    sweep: sweeping(db),
  };

  async function nextPage(): Promise<string[]> {
    if (last === '') [formerly, awaited] = [awaited, new Map()];
    const walked = (await db.many(listAwaitedKeys, [tenant, last, page])).map(({ key }) => key);
    last = walked.length < page ? '' : (walked.at(-1) as string);
    return walked;
  }

  async function letGoOf(keys: string[]): Promise<number> {
    const seen = (await db.many(findHolders, [tenant, keys])).filter((one) => one.first_waiting !== null);
    for (const { job_id, key } of seen) remember(job_id, key);
    const free = seen.filter((one) => goesOn(one) !== null).map(({ key }) => key);
    if (free.length === 0) return 0;
    const gone = await db.transaction(async (tx) => {
      const locked = (await tx.many(lockFreeKeys, [tenant, free])).map(({ key }) => key);
      return letFirstGo(tx, await tx.many(findHolders, [tenant, locked]));
    });
    announce(gone);
    tellGone(gone, options);
    return gone.length;
  }

  function remember(job_id: string, key: string): void {
    if (awaited.size < most_known) awaited.set(job_id, key);
  }

  /** Has keys looked at now: their holders may have ended meanwhile, and whoever ends one from now on looks itself. */
  function lookAt(keys: readonly string[]): void {
    if (keys.length === 0) return;
    for (const key of keys) freed.add(key);
    onFree();
  }

  function announce(moved: readonly LetIn[]): void {
    ready.announce(moved.filter(({ block }) => block !== null));
  }
}

/** Who is let in, and who is parked: one for each key that is free, and the holder itself. */
function sorted(
  due: readonly { job_id: string; key: string }[],
  holders: ReadonlyMap<string, Held>,
): { job_id: string; key: string; parks: boolean }[] {
  const taken = new Set<string>();
  return due.flatMap(({ job_id, key }) => {
    const holder = holders.get(key);
    // Somebody else has the key just now: it is not long.
    if (holder === undefined) return [];
    const parks = taken.has(key) || (holder.job_id !== job_id && holds(holder));
    if (!parks) taken.add(key);
    return [{ job_id, key, parks }];
  });
}

/** Forgets keys that nobody holds, a bounded part of them at a time. */
function sweeping(db: Pool): Chore {
  let last = '';
  return {
    name: 'sweep-keys',
    every_ms: 30_000,
    async run() {
      const { looked, forgotten, last: seen } = await db.one(sweepKeys, [tenant, last, page]);
      last = looked < page ? '' : (seen ?? '');
      // Where much of it is to be forgotten, more of that lies behind it.
      return { moved: forgotten, again_ms: forgotten > page / 2 ? 0 : undefined };
    },
  };
}

async function tellSuperseded({ superseded }: KeptAll, { lanes, events }: KeysOptions): Promise<void> {
  for (const { id, lane, type, from } of superseded) {
    const { queue, route } = lanes.peek(lane) ?? (await lanes.get(lane));
    const end = { class: null, run_ms: null, epoch: 0, attempt: 0, lane, from, to: 'cancelled' as const };
    events.emit('job.ended', { job_id: id, queue, type: type ?? route, outcome: 'cancelled', ...end });
  }
}

function tellGone(gone: readonly LetGo[], { events, onLater }: KeysOptions): void {
  for (const { lane, block, unready, due_in_ms } of gone) {
    if (block === null) onLater(due_in_ms);
    const to = { lane, state: block === null ? unready : ('queued' as const) };
    events.emit('jobs.moved', { jobs: 1, from: { lane, state: 'blocked' }, to });
  }
}

function tellLetIn(letIn: readonly LetIn[], events: EventBus): void {
  for (const { job_id, lane, parked, unready } of letIn) {
    const state = parked ? 'blocked' : 'queued';
    events.emit('jobs.moved', { jobs: 1, from: { lane, state: unready }, to: { lane, state } });
    if (parked) events.emit('job.parked', { job_id });
  }
}
