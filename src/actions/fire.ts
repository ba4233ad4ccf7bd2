// Fires schedules: what is due is read, judged, and written down together with the jobs it makes. Only the leader does it.
// Invariants: jobs, ledger and advance commit together, under a term that cannot end before they do; a schedule that
// changed since it was read is left for the next look; one that cannot be fired does not keep its neighbours from it.
// Next room: due.ts, which says what is to be written; write-slots.ts, which writes; roles/elect.ts, which holds the term.
import { setImmediate as othersHadTheirTurn } from 'node:timers/promises';
import type { PolicyOf } from '../domain/policy.ts';
import type { Problem } from '../domain/problem.ts';
import type { EventBus } from '../events.ts';
import { type Pool, sqlState } from '../store/db.ts';
import { findEnded } from '../store/jobs.ts';
import type { Lanes } from '../store/lanes.ts';
import {
  type DueSchedule,
  deferSchedule,
  findDue,
  findSlots,
  postponeSchedule,
  stopAsked,
} from '../store/slots.ts';
import type { Cancel } from './cancel.ts';
import type { Chore } from './chores.ts';
import { type Case, considered, fits, withoutDecided } from './due.ts';
import type { Keys } from './keys.ts';
import { writeSlots } from './write-slots.ts';

export interface FireOptions {
  db: Pool;
  lanes: Lanes;
  keys: Keys;
  cancel: Cancel;
  /** Whether a queue takes no jobs, because it is drained. */
  isDrained: (queue: string) => boolean;
  /** Why a queue is none, where queues have to be made; null: it is one. */
  unknown: (queue: string) => Problem | null;
  events: EventBus;
  policyOf: PolicyOf;
  /** The term this process may act in; null: none. */
  term: () => string | null;
  /** The database says that the term is over. */
  onFenced: (term: string) => void;
  /** Jobs could not be asked to stop; they are asked again. */
  onError: (error: unknown) => void;
}

/** Schedules read at once. */
const batch = 500;
/** Seconds back that are looked at, and that mean all. */
const recent = 60;
const everything = 100_000_000_000;
const full_ms = 10_000;
const postponed_seconds = 10;
const deferred_seconds = 2;
/** Schedules that are judged without letting requests and renewals have a turn. */
const unpaused = 64;

/** The leader's chore that fires schedules. */
export function firing(options: FireOptions): Chore {
  const { db } = options;
  let fullAt = 0;
  let lastTerm: string | null = null;
  /** Schedules that the last look could not write, because somebody else was at them. */
  let passedOver: ReadonlySet<number> = new Set();
  let isAsking = false;

  return {
    name: 'fire',
    every_ms: 1_000,
    async run(thorough) {
      const term = options.term();
      if (term === null) return { moved: 0 };
      const began = performance.now();
      // What fell due while nobody led may lie far back.
      const full = thorough || began >= fullAt || term !== lastTerm;
      lastTerm = term;
      const { now, next_ms, due } = await findDue(db, batch, full ? everything : recent);
      const more = due.length >= batch;
      if (full && !more) fullAt = began + full_ms;
      const ended = await endedOf(due, db);
      const done: Done[] = [];
      const met = new Set<number>();
      let [hasRest, next] = [more, next_ms ?? Number.POSITIVE_INFINITY];
      for await (const part of judged(due, now, { ended, passedOver }, options)) {
        done.push(...(await fireTogether(term, part, passedOver.has(part[0]?.row.id ?? 0), options)));
        for (const { row, verdicts, advance } of part) {
          met.add(row.id);
          const wait = (advance.next_due?.getTime() ?? Number.POSITIVE_INFINITY) - now.getTime();
          next = Math.min(next, wait);
          // There was more to decide of it than may be written at once.
          hasRest ||= verdicts.length > 0 && wait <= 0;
        }
      }
      const stops = done.filter(({ stopping }) => stopping.length > 0);
      if (stops.length > 0 && !isAsking) {
        isAsking = true;
        // Nobody waits for that; what is not asked meanwhile stands in the rows.
        void askToStop(stops, options)
          .catch(options.onError)
          .finally(() => {
            isAsking = false;
          });
      }
      for (const { id } of done) met.delete(id);
      passedOver = met;
      const moved = done.length;
      if (options.term() !== term) return { moved };
      if (hasRest) return { moved, again_ms: 0 };
      // Who was passed over had just changed, or was locked: it will not be long.
      if (passedOver.size > 0) return { moved, again_ms: 50 };
      const again_ms = Math.max(1, next - (performance.now() - began));
      return { moved, again_ms: Number.isFinite(again_ms) ? again_ms : undefined };
    },
  };
}

/**
 * Judges what is due in parts that one transaction may write; only one part is in memory at a time. Those that were passed
 * over come last, each alone: they are waited for.
 */
async function* judged(
  due: readonly DueSchedule[],
  now: Date,
  { ended, passedOver }: { ended: ReadonlySet<string>; passedOver: ReadonlySet<number> },
  options: FireOptions,
): AsyncGenerator<Case[]> {
  const waitedFor = (row: DueSchedule) => passedOver.has(row.id);
  let part: Case[] = [];
  for (const [n, row] of due.toSorted((a, b) => Number(waitedFor(a)) - Number(waitedFor(b))).entries()) {
    if (n % unpaused === unpaused - 1) await othersHadTheirTurn();
    const one = await unlessDrained(row, now, ended, options).catch((error) => setAside(row, error, options));
    if (one === null) continue;
    if (!fits(part, one) || (waitedFor(row) && part.length > 0)) {
      yield part;
      part = [];
    }
    part.push(one);
  }
  if (part.length > 0) yield part;
}

/** Judges a schedule; null: its queue takes nothing now, and its slots stay due. Throws where there is no such queue. */
async function unlessDrained(
  row: DueSchedule,
  now: Date,
  ended: ReadonlySet<string>,
  options: FireOptions,
): Promise<Case | null> {
  const { queue } = row.definition.job;
  const unknown = options.unknown(queue);
  if (unknown !== null) throw unknown;
  if (!options.isDrained(queue)) return considered(row, now, ended);
  await options.db.many(deferSchedule, [row.id, deferred_seconds]);
  return null;
}

/** Of the jobs these schedules have open, those that have ended. Where jobs may overlap nobody needs to know. */
async function endedOf(due: readonly DueSchedule[], db: Pool): Promise<ReadonlySet<string>> {
  const asked = due.filter(
    (row) => row.definition.overlap !== 'allow' || row.held !== null || row.stopping.length > 0,
  );
  const ids = asked.flatMap((row) => row.open_jobs);
  if (ids.length === 0) return new Set();
  return new Set((await db.many(findEnded, [ids])).map((row) => row.job_id));
}

/** Fires cases in one transaction; where the fault of one spoils it, in halves. Answers the schedules that are done with. */
async function fireTogether(
  term: string,
  cases: readonly Case[],
  waits: boolean,
  options: FireOptions,
): Promise<Done[]> {
  if (options.term() !== term) return [];
  try {
    const written = await writeSlots(term, cases, waits, options);
    if (written === null) {
      options.onFenced(term);
      return [];
    }
    options.keys.tell(written.all, written.began);
    for (const event of written.decided) options.events.emit('slot.decided', event);
    for (const event of written.submitted) options.events.emit('job.submitted', event);
    return written.cases.map(({ row, advance }) => ({ id: row.id, stopping: advance.stopping }));
  } catch (error) {
    const state = sqlState(error) ?? '';
    if (!/^(2[123]|40|54|55P03|57014)/.test(state)) throw error;
    const [one] = cases;
    if (one === undefined) throw error;
    if (cases.length > 1) {
      const half = Math.ceil(cases.length / 2);
      const first = await fireTogether(term, cases.slice(0, half), waits, options);
      return [...first, ...(await fireTogether(term, cases.slice(half), waits, options))];
    }
    // Somebody else was first at it.
    if (/^(40|55P03)/.test(state)) return [];
    // What the ledger knows is decided, whoever wrote it.
    const rest = withoutDecided(one, await knownSlots(one, options.db));
    if (rest !== null) return fireTogether(term, [rest], waits, options);
    await setAside(one.row, error, options);
    return [{ id: one.row.id, stopping: [] }];
  }
}

/** A schedule that is done with, and its jobs that are to be asked to stop. */
interface Done {
  id: number;
  stopping: readonly string[];
}

async function knownSlots({ row, verdicts }: Case, db: Pool): Promise<Date[]> {
  const rows = await db.many(findSlots, [row.id, verdicts.map(({ slot }) => slot.toISOString())]);
  return rows.map(({ slot }) => slot);
}

/** Asks jobs to stop, a few at once. Who is not asked stays in the row of the schedule, for the next look. */
async function askToStop(done: readonly Done[], { db, cancel }: FireOptions): Promise<void> {
  const turns = done.values();
  const ask = async () => {
    for (const { id, stopping } of turns) {
      for (const job of stopping) await cancel.cancel(job);
      await db.many(stopAsked, [id, stopping]);
    }
  };
  await Promise.all(Array.from({ length: 4 }, ask));
}

/** One schedule that cannot be fired waits a little, is told of, and leaves the others alone. */
async function setAside(row: DueSchedule, error: unknown, { db, events }: FireOptions): Promise<null> {
  events.emit('schedule.failed', { schedule: row.name, error });
  await db.many(postponeSchedule, [row.id, postponed_seconds]);
  return null;
}
