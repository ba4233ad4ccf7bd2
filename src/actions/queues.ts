// Sets queues and pulls their levers: settings, pause, resume, drain, delete; and shows them.
// Invariants: two changes of one queue are made one after the other, the second judged by what the first left; change, audit
// and news commit together; a lever that is pulled again changes nothing, not even the version; this process goes by a
// change before its caller is answered.
// Next room: store/queues.ts; levers.ts, by which every process goes.
import { isDeepStrictEqual } from 'node:util';
import type { By } from '../domain/actor.ts';
import { leverOf } from '../domain/lever.ts';
import { cut, looksAt, nextPage, pageFrom } from '../domain/page.ts';
import { Problem } from '../domain/problem.ts';
import { isEmpty, type QueueFacts } from '../domain/queue-record.ts';
import { type QueueSettings, settingsFrom } from '../domain/queue-settings.ts';
import { tenant } from '../domain/tenant.ts';
import { audit, type Deed } from '../store/audit.ts';
import type { Db, Pool } from '../store/db.ts';
import { turnLevers } from '../store/levers.ts';
import {
  drainQueue,
  findQueues,
  forgetQueue,
  holdersIn,
  lockQueue,
  makeQueue,
  pauseQueue,
  pauseType,
  resumeQueue,
  resumeTypes,
  setQueue,
  touchQueue,
  unmakeQueue,
  walkQueues,
} from '../store/queues.ts';
import type { Levers } from './levers.ts';

/** A queue as a change finds it; may throw, and then nothing is changed. */
export type QueueCheck = (present: QueueFacts, isSame: boolean) => void;

/** What became of a lever: whether it changed anything, and the queue as it is now. */
export interface Pulled {
  changed: boolean;
  queue: QueueFacts;
}

/** Until when, as RFC 3339 text, and why; null: no end, no reason. What is left out stays as it is. */
export interface QueuePause {
  until?: string | null | undefined;
  reason?: string | null | undefined;
}

export interface QueueDrain {
  deadline?: string | null | undefined;
  reason?: string | null | undefined;
}

/** A page of queues; `next_cursor` null = there is no more. */
export interface QueuePage {
  items: QueueFacts[];
  next_cursor: string | null;
}

/** All but `find`, `page` and `put` throw `not-found` where there is no such queue. */
export interface Queues {
  find(name: string): Promise<QueueFacts | undefined>;
  page(limit: number, cursor?: string): Promise<QueuePage>;
  /** Makes a queue or replaces its settings. */
  put(name: string, wish: QueueSettings, check: QueueCheck, by: By): Promise<Pulled & { isNew: boolean }>;
  /** Sets what `make` says of the queue as it is; what it throws is thrown. */
  patch(name: string, make: (present: QueueFacts) => QueueSettings, by: By): Promise<Pulled>;
  /** Forgets what was set of a queue in which no job is open; throws `queue-not-empty`. */
  remove(name: string, check: (present: QueueFacts) => void, by: By): Promise<void>;
  /** Pauses the queue, or only these types. */
  pause(name: string, types: readonly string[] | null, how: QueuePause, by: By): Promise<Pulled>;
  /** Ends pause and drain of the queue, or only the pauses of these types. */
  resume(name: string, types: readonly string[] | null, by: By): Promise<Pulled>;
  drain(name: string, how: QueueDrain, by: By): Promise<Pulled>;
}

export interface QueueOptions {
  db: Pool;
  levers: Pick<Levers, 'look'>;
  /** Seals cursors. */
  secret: Buffer;
}

export function queueing({ db, levers, secret }: QueueOptions): Queues {
  /** Runs a change on the locked queue; `work` answers what it has done, null: nothing. */
  async function changing(
    name: string,
    by: By,
    work: (tx: Db, present: QueueFacts) => Promise<Omit<Deed, 'target'> | null>,
  ): Promise<Pulled> {
    const pulled = await db.transaction(async (tx) => {
      await tx.many(makeQueue, [tenant, name]);
      await tx.many(lockQueue, [tenant, name]);
      const present = await factsOf(tx, name);
      const deed = await work(tx, present);
      if (deed === null) {
        await tx.many(unmakeQueue, [tenant, name]);
        return { changed: false, queue: present };
      }
      await audit(tx, by, { ...deed, target: name });
      const queue = await factsOf(tx, name);
      await tx.many(turnLevers);
      return { changed: true, queue };
    });
    // Where that fails, the look that follows by itself finds it.
    if (pulled.changed) await levers.look().catch(() => {});
    return pulled;
  }

  return {
    async find(name) {
      const facts = await factsOf(db, name);
      return facts.exists ? facts : undefined;
    },

    async page(limit, cursor) {
      const question = JSON.stringify(['queues', tenant]);
      const from = pageFrom(cursor, [''], question, secret);
      const looked = looksAt(limit, false);
      const { shown, last } = cut(await db.many(walkQueues, [tenant, from[0], looked]), looked, limit);
      const facts = await db.many(findQueues, [tenant, shown.map(({ name }) => name)]);
      return {
        items: facts.filter((one) => one.exists),
        next_cursor: nextPage(last && [last.name], question, secret),
      };
    },

    async put(name, wish, check, by) {
      let isNew = false;
      const pulled = await changing(name, by, async (tx, present) => {
        isNew = !present.exists;
        const isSame = present.exists && isDeepStrictEqual(settingsFrom(present.settings), keptAs(wish));
        check(present, isSame);
        if (isSame) return null;
        await tx.many(setQueue, [tenant, name, JSON.stringify(wish)]);
        return { action: 'queue.put', facts: changeOf(present, wish) };
      });
      return { ...pulled, isNew };
    },

    patch: (name, make, by) =>
      changing(name, by, async (tx, present) => {
        refuseAbsent(present);
        const wish = make(present);
        if (isDeepStrictEqual(settingsFrom(present.settings), keptAs(wish))) return null;
        await tx.many(setQueue, [tenant, name, JSON.stringify(wish)]);
        return { action: 'queue.patch', facts: changeOf(present, wish) };
      }),

    async remove(name, check, by) {
      await changing(name, by, async (tx, present) => {
        refuseAbsent(present);
        check(present);
        if (!isEmpty(present)) throw notEmpty(present, await tx.many(holdersIn, [tenant, name]));
        await tx.many(forgetQueue, [tenant, name]);
        return { action: 'queue.delete', facts: { settings: present.settings } };
      });
    },

    pause: (name, types, how, by) =>
      changing(name, by, async (tx, present) => {
        refuseAbsent(present);
        const { now, paused_at: since, paused_until: end, pause_reason: reason } = present;
        if (types === null) {
          const lever = leverOf(since === null ? null : { since, end, reason }, how.until, how.reason);
          if (lever === null) return null;
          refusePast('until', how.until, now);
          await tx.many(pauseQueue, [tenant, name, lever.since ?? now, lever.end, lever.reason]);
          return { action: 'queue.pause', reason: lever.reason, facts: { until: lever.end } };
        }
        const standing = new Map(
          present.paused_types.map(({ type, until, ...one }) => [type, { ...one, end: until }]),
        );
        const levers = [...new Set(types)].flatMap((type) => {
          const lever = leverOf(standing.get(type) ?? null, how.until, how.reason);
          return lever === null ? [] : [{ type, ...lever }];
        });
        if (levers.length === 0) return null;
        refusePast('until', how.until, now);
        for (const lever of levers) {
          const { type, since, end, reason } = lever;
          await tx.many(pauseType, [tenant, name, type, since ?? now, end, reason]);
        }
        await tx.many(touchQueue, [tenant, name]);
        const facts = { types: levers.map(({ type }) => type), until: how.until ?? null };
        return { action: 'queue.pause', reason: how.reason ?? null, facts };
      }),

    resume: (name, types, by) =>
      changing(name, by, async (tx, present) => {
        refuseAbsent(present);
        if (types === null) {
          const { paused_at, draining_since } = present;
          if (paused_at === null && draining_since === null) return null;
          await tx.many(resumeQueue, [tenant, name]);
          return { action: 'queue.resume', facts: { paused_at, draining_since } };
        }
        const standing = new Set(present.paused_types.map(({ type }) => type));
        const ended = [...new Set(types)].filter((type) => standing.has(type));
        if (ended.length === 0) return null;
        await tx.many(resumeTypes, [tenant, name, ended]);
        await tx.many(touchQueue, [tenant, name]);
        return { action: 'queue.resume', facts: { types: ended } };
      }),

    drain: (name, how, by) =>
      changing(name, by, async (tx, present) => {
        refuseAbsent(present);
        const { now, draining_since: since, drain_deadline: end, drain_reason: reason } = present;
        const lever = leverOf(since === null ? null : { since, end, reason }, how.deadline, how.reason);
        if (lever === null) return null;
        refusePast('deadline', how.deadline, now);
        await tx.many(drainQueue, [tenant, name, lever.since ?? now, lever.end, lever.reason]);
        return { action: 'queue.drain', reason: lever.reason, facts: { deadline: lever.end } };
      }),
  };
}

async function factsOf(db: Db, name: string): Promise<QueueFacts> {
  return db.one(findQueues, [tenant, [name]]);
}

/** That there is no queue of this name. */
export function noQueue(name: string): Problem {
  return new Problem('not-found', {
    detail: `there is no queue "${name}"; make it by PUT /v1/queues/${name}, or submit a job to it`,
  });
}

/** Why nothing can be done to the jobs of a queue: nobody has made or named it; null: it exists. */
export async function absenceOf(db: Db, name: string): Promise<Problem | null> {
  return (await factsOf(db, name)).exists ? null : noQueue(name);
}

function refuseAbsent({ exists, name }: QueueFacts): void {
  if (!exists) throw noQueue(name);
}

function refusePast(member: string, moment: string | null | undefined, now: Date): void {
  if (typeof moment !== 'string' || Date.parse(moment) > now.getTime()) return;
  const detail = `must lie ahead; it is ${now.toISOString()}`;
  const pointer = `#/${member}`;
  throw new Problem('validation-failed', {
    detail: `${pointer} ${detail}`,
    errors: [{ pointer, code: 'past', detail }],
  });
}

function notEmpty(
  { name, running, has_waiting }: QueueFacts,
  holders: readonly { operation: string }[],
): Problem {
  const runs = running === 0 ? [] : [running === 1 ? '1 job that runs' : `${running} jobs that run`];
  const open = [...runs, ...(has_waiting ? ['jobs that wait'] : [])].join(' and ');
  const held = holders.map(({ operation }) => operation).join(', ');
  const remedy =
    held === ''
      ? 'drain, reroute or purge it'
      : `operation ${held} has set some aside, let it end or undo it`;
  return new Problem('queue-not-empty', {
    detail: `queue "${name}" has ${open}; ${has_waiting ? remedy : 'let what runs end'} first`,
    extra: { running },
  });
}

/** Settings as they are read back: what is kept went through JSON. */
function keptAs(wish: QueueSettings): QueueSettings {
  return settingsFrom(JSON.parse(JSON.stringify(wish)));
}

/** For the audit: the members a change sets, before and after. */
function changeOf(present: QueueFacts, wish: QueueSettings): object {
  const before = settingsFrom(present.settings) as Record<string, unknown>;
  const after = keptAs(wish) as Record<string, unknown>;
  const changed = Object.keys(after).filter((member) => !isDeepStrictEqual(before[member], after[member]));
  return Object.fromEntries(
    changed.map((member) => [member, { before: before[member], after: after[member] }]),
  );
}
