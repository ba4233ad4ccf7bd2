// Fires schedules: what is due is read, judged, and written down together with the jobs it makes. Only the leader does it.
// Invariants: jobs, ledger and advance commit together, under a term that cannot end before they do; a schedule that
// changed since it was read is left for the next look; one that cannot be fired does not keep its neighbours from it.
// Next room: domain/firing.ts, which judges; store/slots.ts, which writes; roles/elect.ts, which holds the term.
import { cadenceOf, dueOf, outstanding } from '../domain/cadence.ts';
import { type DueSlot, isFired, judge, type Verdict } from '../domain/firing.ts';
import type { EventBus } from '../events.ts';
import { type Pool, sqlState } from '../store/db.ts';
import { type Flushed, findEnded, insertJobs, type NewJob } from '../store/jobs.ts';
import type { Lanes } from '../store/lanes.ts';
import { dispatcherRoom, holdTerm } from '../store/leader.ts';
import {
  type Advance,
  type DueSchedule,
  findDue,
  lockSchedules,
  postponeSchedule,
  recordSlots,
} from '../store/slots.ts';
import type { Cancel } from './cancel.ts';
import type { Chore } from './chores.ts';
import { type Ready, slow_insert_ms } from './ready.ts';
import { placed, type Submission } from './submit.ts';

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

/** Schedules read at once, and rows written at once. */
const batch = 500;
/** Payloads written at once, in bytes. */
const most_bytes = 8 * 1024 * 1024;
/** Slots of one schedule that get a row each; of more, the older share one. */
const most_slots = 1_000;
/** Jobs a schedule is remembered to have open. */
export const most_open = 50;
/** Seconds back that are looked at, and that mean all. */
const recent = 60;
const everything = 1_000_000_000;
const full_ms = 10_000;
/** How soon a schedule is looked at whose slot waits for the end of a job. */
const held_ms = 1_000;
const postponed_seconds = 10;

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
      const cases: Case[] = [];
      for (const row of due) {
        const one = await considered(row, now, ended).catch((error) => setAside(row, error, options));
        if (one !== null) cases.push(one);
      }
      let written = 0;
      for (const part of parts(cases)) written += await fireTogether(term, part, options);
      const took = performance.now() - began;
      const nextDue = cases.map(({ advance }) => (advance.next_due?.getTime() ?? Infinity) - now.getTime());
      const hasRest = cases.some(({ verdicts }, i) => verdicts.length > 0 && (nextDue[i] as number) <= 0);
      const soonest = Math.max(1, Math.min(next_ms ?? Infinity, ...nextDue) - took);
      // Who was passed over had just changed, or was locked: it will not be long.
      const again_ms = more || hasRest ? 0 : written < cases.length ? 50 : soonest;
      return { moved: written, again_ms: Number.isFinite(again_ms) ? again_ms : undefined };
    },
  };
}

/** What is to be written of one schedule. */
interface Case {
  now: Date;
  row: DueSchedule;
  verdicts: readonly Verdict[];
  /** The jobs of those verdicts that are fired, without their payload. */
  submissions: readonly Submission[];
  advance: Omit<Advance, 'open_jobs'>;
  /** Jobs of the schedule that have not ended. */
  open_jobs: readonly string[];
  /** Whether those are to be asked to stop. */
  cancels: boolean;
}

/** Of the jobs these schedules have open, those that have ended. Where jobs may overlap nobody needs to know. */
async function endedOf(due: readonly DueSchedule[], db: Pool): Promise<ReadonlySet<string>> {
  const asked = due.filter((row) => row.definition.overlap !== 'allow' || row.held !== null);
  const ids = asked.flatMap((row) => row.open_jobs);
  if (ids.length === 0) return new Set();
  return new Set((await db.many(findEnded, [ids])).map((row) => row.job_id));
}

async function considered(row: DueSchedule, now: Date, ended: ReadonlySet<string>): Promise<Case> {
  const { definition, name } = row;
  const cadence = cadenceOf(definition, name);
  const { slots, folded } = await outstanding(cadence, row.watermark, now, most_slots);
  const due = (slot: Date): DueSlot => ({ slot, due_at: dueOf(slot, definition.jitter_seconds, name) });
  const open_jobs = row.open_jobs.filter((id) => !ended.has(id));
  const judgement = judge(definition, {
    now,
    slots: [...ripe(row.owed.map(due), now), ...ripe(slots.map(due), now)],
    folded,
    held: row.held && due(row.held),
    open: open_jobs.length,
    paused_at: row.paused_at,
    resumed_at: row.resumed_at,
  });
  const verdicts = affordable(judgement.verdicts, row.payload_bytes);

  const decided = new Set([...verdicts, ...(judgement.held === null ? [] : [judgement.held])].map(instantOf));
  const owed = row.owed.filter((slot) => !decided.has(slot.getTime()));
  const undecided = slots.find((slot) => !decided.has(slot.getTime()));
  const next_slot = undecided ?? cadence.next(now);
  const looks = [owed[0], next_slot].flatMap((slot) => (slot ? [due(slot).due_at.getTime()] : []));
  if (judgement.held !== null) looks.push(now.getTime() + held_ms);
  return {
    now,
    row,
    verdicts,
    submissions: verdicts.filter(isFired).map(({ slot }) => slotJob(row, slot)),
    open_jobs,
    cancels: judgement.cancels,
    advance: {
      schedule_id: row.id,
      watermark: undecided === undefined ? now : new Date(undecided.getTime() - 1),
      owed,
      held: judgement.held?.slot ?? null,
      next_slot,
      next_due: looks.length === 0 ? null : new Date(Math.max(now.getTime(), Math.min(...looks))),
    },
  };
}

/** Slots are judged in their order, so one whose jitter has not passed keeps those behind it waiting. */
function ripe(slots: readonly DueSlot[], now: Date): readonly DueSlot[] {
  const unripe = slots.findIndex(({ due_at }) => due_at > now);
  return unripe < 0 ? slots : slots.slice(0, unripe);
}

/** As many verdicts, from the first on, as may be written at once; the rest is judged again at the next look. */
function affordable(verdicts: readonly Verdict[], payload_bytes: number): readonly Verdict[] {
  let bytes = 0;
  const dear = verdicts.findIndex((verdict) => {
    if (isFired(verdict)) bytes += payload_bytes;
    return bytes > most_bytes;
  });
  return dear < 0 ? verdicts : verdicts.slice(0, Math.max(1, dear));
}

const instantOf = ({ slot }: DueSlot) => slot.getTime();

/** Cases in parts that one transaction may write. */
function parts(cases: readonly Case[]): Case[][] {
  const all: Case[][] = [];
  let rows = batch;
  let bytes = 0;
  for (const one of cases) {
    const weight = one.submissions.length * one.row.payload_bytes;
    rows += one.verdicts.length;
    bytes += weight;
    if (rows > batch || bytes > most_bytes) {
      all.push([]);
      rows = one.verdicts.length;
      bytes = weight;
    }
    all.at(-1)?.push(one);
  }
  return all;
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
    return fired.written;
  } catch (error) {
    if (!/^(2[123]|54)/.test(sqlState(error) ?? '')) throw error;
    if (cases.length === 1) {
      await setAside((cases[0] as Case).row, error, options);
      return 1;
    }
    let written = 0;
    for (const one of cases) written += await fireTogether(term, [one], options);
    return written;
  }
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

/** The job of a slot. Its payload is read where the schedule is locked. */
export function slotJob(
  { name, definition: { job } }: Pick<DueSchedule, 'name' | 'definition'>,
  slot: Date,
): Submission {
  const { queue, type, priority, max_attempts, timeout_seconds, backoff, tags, target, callback } = job;
  return {
    queue,
    type,
    priority,
    max_attempts,
    timeout_seconds,
    payload: '',
    run_at: null,
    delay_ms: null,
    expires_at: null,
    backoff: backoff === undefined ? null : JSON.stringify(backoff),
    tags: tags === undefined || tags.length === 0 ? null : tags,
    options: {
      schedule: { name, slot: slot.toISOString() },
      ...(target === undefined ? {} : { target }),
      ...(callback === undefined ? {} : { callback }),
    },
    idempotency: null,
  };
}

/** One schedule that cannot be fired waits a little, is told of, and leaves the others alone. */
async function setAside(row: DueSchedule, error: unknown, { db, events }: FireOptions): Promise<null> {
  events.emit('schedule.failed', { schedule: row.name, error });
  await db.many(postponeSchedule, [row.id, postponed_seconds]);
  return null;
}
