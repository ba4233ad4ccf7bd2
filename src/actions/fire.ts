// Fires schedules: what is due is read, judged, and written down together with the jobs it makes. Only the leader does it.
// Invariants: jobs, ledger and advance commit together, under a term that cannot end before they do; a schedule that
// changed since it was read is left for the next look; one that cannot be fired does not keep its neighbours from it.
// Next room: due.ts, which says what is to be written; store/slots.ts, which writes; roles/elect.ts, which holds the term.
import { setImmediate as othersHadTheirTurn } from 'node:timers/promises';
import { isFired } from '../domain/firing.ts';
import type { EventBus } from '../events.ts';
import { type Pool, sqlState } from '../store/db.ts';
import { type Flushed, findEnded, insertJobs, type NewJob } from '../store/jobs.ts';
import type { Lanes } from '../store/lanes.ts';
import { dispatcherRoom, holdTerm } from '../store/leader.ts';
import {
  type DueSchedule,
  findDue,
  findSlots,
  lockSchedules,
  postponeSchedule,
  recordSlots,
} from '../store/slots.ts';
import type { Cancel } from './cancel.ts';
import type { Chore } from './chores.ts';
import { type Case, considered, fits, most_open, withoutDecided } from './due.ts';
import { type Ready, slow_insert_ms } from './ready.ts';
import { placed } from './submit.ts';

export interface FireOptions {
  db: Pool;
  lanes: Lanes;
  ready: Ready;
  cancel: Cancel;
  events: EventBus;
  /** The term this process may act in; null: none. */
  term: () => string | null;
  /** The database says that the term is over. */
  onFenced: (term: string) => void;
}

/** Schedules read at once. */
const batch = 500;
/** Seconds back that are looked at, and that mean all. */
const recent = 60;
const everything = 1_000_000_000;
const full_ms = 10_000;
const postponed_seconds = 10;
/** Schedules that are judged without letting requests and renewals have a turn. */
const unpaused = 64;

/** The leader's chore that fires schedules. */
export function firing(options: FireOptions): Chore {
  const { db } = options;
  let fullAt = 0;
  let lastTerm: string | null = null;

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
      let [found, written, hasRest, next] = [0, 0, more, next_ms ?? Number.POSITIVE_INFINITY];
      for await (const part of judged(due, now, ended, options)) {
        if (options.term() !== term) return { moved: written };
        written += await fireTogether(term, part, options);
        found += part.length;
        for (const { verdicts, advance } of part) {
          const wait = (advance.next_due?.getTime() ?? Number.POSITIVE_INFINITY) - now.getTime();
          next = Math.min(next, wait);
          // There was more to decide of it than may be written at once.
          hasRest ||= verdicts.length > 0 && wait <= 0;
        }
      }
      if (hasRest) return { moved: written, again_ms: 0 };
      // Who was passed over had just changed, or was locked: it will not be long.
      if (written < found) return { moved: written, again_ms: 50 };
      const again_ms = Math.max(1, next - (performance.now() - began));
      return { moved: written, again_ms: Number.isFinite(again_ms) ? again_ms : undefined };
    },
  };
}

/** Judges what is due in parts that one transaction may write; only one part is in memory at a time. */
async function* judged(
  due: readonly DueSchedule[],
  now: Date,
  ended: ReadonlySet<string>,
  options: FireOptions,
): AsyncGenerator<Case[]> {
  let part: Case[] = [];
  for (const [n, row] of due.entries()) {
    if (n % unpaused === unpaused - 1) await othersHadTheirTurn();
    const one = await considered(row, now, ended).catch((error) => setAside(row, error, options));
    if (one === null) continue;
    if (!fits(part, one)) {
      yield part;
      part = [];
    }
    part.push(one);
  }
  if (part.length > 0) yield part;
}

/** Of the jobs these schedules have open, those that have ended. Where jobs may overlap nobody needs to know. */
async function endedOf(due: readonly DueSchedule[], db: Pool): Promise<ReadonlySet<string>> {
  const asked = due.filter((row) => row.definition.overlap !== 'allow' || row.held !== null);
  const ids = asked.flatMap((row) => row.open_jobs);
  if (ids.length === 0) return new Set();
  return new Set((await db.many(findEnded, [ids])).map((row) => row.job_id));
}

/** Writes cases in one transaction; where the fault of one spoils it, each in its own. Answers how many were written. */
async function fireTogether(term: string, cases: readonly Case[], options: FireOptions): Promise<number> {
  try {
    for (const { cancels, open_jobs } of cases) {
      // Before the new job is made: if this process dies in between, the next one asks once more and then makes it.
      if (cancels) for (const id of open_jobs) await options.cancel.cancel(id);
    }
    const fired = await fire(term, cases, options);
    if (fired === null) {
      options.onFenced(term);
      return 0;
    }
    options.ready.announce(fired.heads, fired.slow ? BigInt(fired.first_block) : null);
    for (const event of fired.decided) options.events.emit('slot.decided', event);
    for (const job of fired.submitted) {
      options.events.emit('job.submitted', { ...job, state: 'queued', replayed: false });
    }
    return fired.written;
  } catch (error) {
    if (!/^(2[123]|54)/.test(sqlState(error) ?? '')) throw error;
    const [only] = cases;
    if (cases.length === 1 && only !== undefined) {
      // What the ledger knows is decided, whoever wrote it.
      const rest = withoutDecided(only, await knownSlots(only, options.db));
      if (rest !== null) return fireTogether(term, [rest], options);
      await setAside(only.row, error, options);
      return 1;
    }
    let written = 0;
    for (const one of cases) written += await fireTogether(term, [one], options);
    return written;
  }
}

async function knownSlots({ row, verdicts }: Case, db: Pool): Promise<Date[]> {
  const rows = await db.many(findSlots, [row.id, verdicts.map(({ slot }) => slot.toISOString())]);
  return rows.map(({ slot }) => slot);
}

/** Null: the term is over, and nothing was written. */
async function fire(term: string, cases: readonly Case[], { db, lanes }: FireOptions) {
  const jobsOf = new Map<Case, NewJob[]>();
  for (const one of cases) {
    const jobs: NewJob[] = [];
    for (const submission of one.submissions) jobs.push(await placed(submission, lanes));
    jobsOf.set(one, jobs);
  }
  const began = performance.now();
  return db.transaction(async (tx) => {
    if ((await tx.maybeOne(holdTerm, [dispatcherRoom, term])) === undefined) return null;
    const locked = await tx.many(lockSchedules, [
      cases.map(({ row }) => row.id),
      cases.map(({ row }) => row.seen),
    ]);
    const payloads = new Map(locked.map(({ id, payload }) => [id, payload]));
    const unchanged = cases.filter(({ row }) => payloads.has(row.id));
    const jobs = unchanged.flatMap((one) =>
      (jobsOf.get(one) ?? []).map((job) => ({ ...job, payload: payloads.get(one.row.id) as string })),
    );
    const made: Flushed = jobs.length === 0 ? noJobs : await insertJobs(tx, jobs);
    const ids = made.inserted.map((one) => one?.id ?? null).values();
    const written = unchanged.map((one) => ({
      ...one,
      rows: one.verdicts.map((verdict) => ({
        ...verdict,
        schedule_id: one.row.id,
        job_id: isFired(verdict) ? (ids.next().value ?? null) : null,
      })),
    }));
    await recordSlots(
      tx,
      term,
      written.flatMap(({ rows }) => rows),
      written.map(({ advance, open_jobs, rows }) => ({
        ...advance,
        open_jobs: [...open_jobs, ...rows.flatMap(({ job_id }) => job_id ?? [])].slice(-most_open),
      })),
    );
    return {
      written: written.length,
      heads: made.heads,
      first_block: made.first_block,
      slow: performance.now() - began > slow_insert_ms,
      submitted: unchanged
        .flatMap(({ submissions }) => submissions)
        .flatMap(({ queue, type }, n) => {
          const job_id = made.inserted[n]?.id;
          return job_id === undefined ? [] : [{ job_id, queue, type }];
        }),
      decided: written.flatMap(({ now, row, rows }) =>
        rows.map(({ schedule_id: _, through: __, ...decided }) => ({
          ...decided,
          schedule: row.name,
          lateness_ms: now.getTime() - decided.due_at.getTime(),
        })),
      ),
    };
  });
}

const noJobs: Flushed = { inserted: [], heads: [], first_block: '0' };

/** One schedule that cannot be fired waits a little, is told of, and leaves the others alone. */
async function setAside(row: DueSchedule, error: unknown, { db, events }: FireOptions): Promise<null> {
  events.emit('schedule.failed', { schedule: row.name, error });
  await db.many(postponeSchedule, [row.id, postponed_seconds]);
  return null;
}
