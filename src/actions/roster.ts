// Knows who takes work: hears of pull workers by their calls and of this process by itself, writes it down once in a while
// for all to read, and says which ready jobs nobody takes.
// Invariant: a hint for people: no claim and no ending waits for it, and it is bounded whatever names callers invent.
// Next room: store/roster.ts; http/workers.ts, which shows it.
import { cut, looksAt, nextPage, pageFrom } from '../domain/page.ts';
import { pulls, runs } from '../domain/patterns.ts';
import { tenant } from '../domain/tenant.ts';
import { listHeads } from '../store/claims.ts';
import type { Pool } from '../store/db.ts';
import type { Lane, Lanes, Workers } from '../store/lanes.ts';
import {
  dismiss,
  type Enlisted,
  type Enrolled,
  enroll,
  forgetSilent,
  heldBy,
  listRoster,
  onDuty,
  readyIn,
} from '../store/roster.ts';
import { numbers } from '../store/sql.ts';
import type { Chore } from './chores.ts';
import type { LeaseAsk, Pull } from './pull.ts';

export type { Enlisted };

/** Those who take jobs of a lane: how many, how many jobs they take at once, and how many they hold now. */
export interface Takers {
  workers: number;
  slots: number;
  running: number;
}

/** Ready jobs that nobody on duty takes. */
export interface Unserved {
  lane: Lane;
  queued: number;
}

export interface Roster {
  /** The same verbs, listened to: whoever leases, or waits to, is on duty. */
  hearing(pull: Pull): Pull;
  /** Who takes work, page by page; `next_cursor` null = there are no more. */
  page(limit: number, cursor?: string): Promise<{ items: Enlisted[]; next_cursor: string | null }>;
  /** Who on duty takes jobs of a lane, with how many jobs they take at once. */
  takers(lane: Lane): Promise<Takers>;
  /** Lanes with ready jobs that nobody on duty takes. */
  unserved(): Promise<Unserved[]>;
  /** Writes down what was heard since the last time. Answers how many rows that were. */
  write(): Promise<number>;
  /** This process takes nothing any more. */
  leave(): Promise<void>;
}

/** Whoever was not heard of for so long is not on duty: longer than a long poll and than two writings. */
export const on_duty_seconds = 60;
const writing_ms = 10_000;
const most_heard = 10_000;
const most_written = 500;

export function keepingRoster(options: {
  db: Pool;
  lanes: Lanes;
  workers: Workers;
  secret: Buffer;
  /** What this process itself takes; null = nothing. */
  self: () => Enrolled | null;
}): Roster {
  const { db, lanes, workers, secret } = options;
  /** Pull workers by name: their last wish, how many of their calls wait, and whether they were heard since the writing. */
  const heard = new Map<string, { ask: LeaseAsk; waiting: number; news: boolean }>();

  function enter(ask: LeaseAsk): () => void {
    const known = heard.get(ask.worker);
    if (known === undefined && heard.size >= most_heard) return () => {};
    const one = known ?? { ask, waiting: 0, news: true };
    one.ask = ask;
    one.news = true;
    one.waiting++;
    heard.set(ask.worker, one);
    return () => {
      one.waiting--;
    };
  }

  async function onDutyFor() {
    const present = await db.many(onDuty, [on_duty_seconds]);
    return (lane: Lane) =>
      present.filter((one) => (one.kind === 'pull' ? pulls(lane, one) : runs(lane, one)));
  }

  return {
    hearing: (pull) => ({
      ...pull,
      async lease(ask) {
        const leave = enter(ask);
        try {
          return await pull.lease(ask);
        } finally {
          leave();
        }
      },
    }),

    async page(limit, cursor) {
      const question = JSON.stringify(['workers', tenant]);
      const from = pageFrom(cursor, ['0'], question, secret);
      const looked = looksAt(limit, false);
      const rows = await db.many(listRoster, [tenant, from[0], looked, on_duty_seconds]);
      const { shown, last } = cut(rows, looked, limit);
      return { items: shown, next_cursor: nextPage(last && [`${last.worker}`], question, secret) };
    },

    async takers(lane) {
      const takers = (await onDutyFor())(lane);
      const { running } = await db.one(heldBy, [numbers(takers.map((one) => one.worker))]);
      return { workers: takers.length, slots: takers.reduce((sum, one) => sum + one.slots, 0), running };
    },

    async unserved() {
      const takers = await onDutyFor();
      const missed = new Map<number, Lane>();
      for (const { lane: id } of await db.many(listHeads)) {
        const lane = lanes.peek(id) ?? (await lanes.get(id));
        if (!lane.route.startsWith(':hold.') && takers(lane).length === 0) missed.set(id, lane);
      }
      if (missed.size === 0) return [];
      const rows = await db.many(readyIn, [numbers([...missed.keys()])]);
      return rows.map(({ lane, queued }) => ({ lane: missed.get(lane) as Lane, queued }));
    },

    async write() {
      const self = options.self();
      const rows: Enrolled[] = self === null ? [] : [self];
      for (const [name, one] of [...heard].slice(0, most_written)) {
        if (!one.news && one.waiting === 0) {
          heard.delete(name);
          continue;
        }
        one.news = false;
        // Who was written goes to the end, so that a crowd too large for one writing gets its turn.
        heard.delete(name);
        heard.set(name, one);
        rows.push(await enrolled(workers, name, one.ask));
      }
      if (rows.length > 0) await db.many(enroll, [JSON.stringify(rows)]);
      await db.many(forgetSilent);
      return rows.length;
    },

    async leave() {
      const self = options.self();
      if (self !== null) await db.many(dismiss, [numbers([self.worker])]);
    },
  };
}

/** Writes the roster down. */
export function writingRoster(roster: Roster): Chore {
  return { name: 'roster', every_ms: writing_ms, run: async () => ({ moved: await roster.write() }) };
}

async function enrolled(workers: Workers, name: string, ask: LeaseAsk): Promise<Enrolled> {
  return {
    worker: await workers.named(name),
    kind: 'pull',
    version: ask.version ?? null,
    slots: ask.limit,
    pushes: false,
    queues: ask.queues,
    types: ask.types,
  };
}
