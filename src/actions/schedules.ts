// Keeps schedules: defines, changes, pauses and deletes them, and shows them.
// Invariants: two changes of one schedule are made one after the other, the second judged by what the first left; a
// definition that is already in force is not written again; what was due under the old one stays due under the new one.
// Next room: store/schedules.ts; trigger.ts and runs.ts for what else can be asked of a schedule; fire.ts, which fires.
import { isDeepStrictEqual } from 'node:util';
import type { By } from '../domain/actor.ts';
import { cadenceOf, type Outstanding, outstanding } from '../domain/cadence.ts';
import { CadenceFault } from '../domain/cadence-fault.ts';
import { type DueSlot, type FoldedSlots, judge, type Verdict } from '../domain/firing.ts';
import { dueOf } from '../domain/jitter.ts';
import { cut, looksAt, nextPage, pageFrom } from '../domain/page.ts';
import { Problem } from '../domain/problem.ts';
import type { Definition } from '../domain/schedule.ts';
import { type RunFacts, type ScheduleFacts, type ScheduleState, stateOf } from '../domain/schedule-record.ts';
import { tenant } from '../domain/tenant.ts';
import type { EventBus } from '../events.ts';
import { audit } from '../store/audit.ts';
import type { Db, Pool } from '../store/db.ts';
import {
  deleteSchedule,
  findSchedule,
  findSchedules,
  insertSchedule,
  type LockedSchedule,
  lockSchedule,
  newestSlots,
  pauseSchedule,
  type ReadSchedule,
  readNow,
  replaceSchedule,
  resumeSchedule,
  walkSchedules,
} from '../store/schedules.ts';
import { recordSlots } from '../store/slots.ts';
import { unhurried } from './unhurried.ts';

/** A schedule as its caller wants it; the payload of its jobs is JSON text. */
export interface Wish {
  definition: Definition;
  payload: string;
}

/** A schedule as it is read alone. */
export type WholeSchedule = ScheduleFacts & { payload: string };

/** A schedule as a change finds it; may throw, and then nothing is changed. */
export type Check = (present: LockedSchedule | undefined, isSame: boolean) => void;

/** What a schedule is to become; may throw, and then nothing is changed. */
export type Change = (present: LockedSchedule) => Wish;

/** A page of schedules; `next_cursor` null = there is no more. */
export interface SchedulePage {
  items: ScheduleFacts[];
  next_cursor: string | null;
}

export interface Schedules {
  /** The moment by which slots are due. */
  now(): Promise<Date>;
  find(name: string): Promise<WholeSchedule | undefined>;
  page(state: ScheduleState | undefined, limit: number, cursor?: string): Promise<SchedulePage>;
  /** Makes a schedule or replaces its definition. */
  put(name: string, wish: Wish, check: Check, by: By): Promise<{ isNew: boolean; schedule: WholeSchedule }>;
  /** Changes a schedule to what `make` says of it; undefined: there is none. */
  patch(name: string, make: Change, by: By): Promise<WholeSchedule | undefined>;
  /** Pauses, resumes or deletes; repeated it changes nothing. Undefined, false: there is no such schedule. */
  pause(name: string, reason: string | null, by: By): Promise<WholeSchedule | undefined>;
  resume(name: string, by: By): Promise<WholeSchedule | undefined>;
  remove(name: string, check: (present: LockedSchedule) => void, by: By): Promise<boolean>;
}

/** Slots that may be owed when a definition is changed; of more, the older are skipped. */
const most_owed = 1_000;
const tries = 5;

export interface ScheduleOptions {
  db: Pool;
  /** Seals cursors. */
  secret: Buffer;
  events: EventBus;
}

export function scheduling({ db, secret, events }: ScheduleOptions): Schedules {
  return {
    now: async () => (await db.one(readNow)).now,

    find: (name) => wholeOf(db, name),

    async page(state, limit, cursor) {
      const question = JSON.stringify(['schedules', tenant, state ?? null]);
      const from = pageFrom(cursor, [''], question, secret);
      const looked = looksAt(limit, state !== undefined);
      const walked = await db.many(walkSchedules, [tenant, from[0], looked]);
      const isAsked = (one: (typeof walked)[number]) => state === undefined || stateOf(one) === state;
      const { shown, last } = cut(walked, looked, limit, isAsked);
      return {
        items: await withLast(db, await db.many(findSchedules, [shown.map((one) => one.id)])),
        next_cursor: nextPage(last && [last.name], question, secret),
      };
    },

    async put(name, wish, check, by) {
      for (let n = 0; n < tries; n++) {
        const made = await db.transaction(async (tx) => {
          const present = await tx.maybeOne(lockSchedule, [tenant, name]);
          const same = present !== undefined && isSame(present, wish);
          check(present, same);
          if (present === undefined && !(await create(tx, name, wish))) return null;
          const given = present === undefined || same ? null : await replace(tx, name, present, wish);
          if (!same)
            await audit(tx, by, { action: 'schedule.put', target: name, facts: changesOf(present, wish) });
          return { isNew: present === undefined, given, schedule: await mine(tx, name) };
        });
        if (made === null) continue;
        tell(name, made.given);
        return made;
      }
      throw new Problem('database-unavailable', { detail: `schedule ${name} is being made; try again` });
    },

    async patch(name, make, by) {
      let given: GivenUp | null = null;
      const schedule = await changing(name, async (tx, present) => {
        const wish = make(present);
        if (!isSame(present, wish)) {
          given = await replace(tx, name, present, wish);
          await audit(tx, by, { action: 'schedule.patch', target: name, facts: changesOf(present, wish) });
        }
        return mine(tx, name);
      });
      tell(name, given);
      return schedule;
    },
    pause: (name, reason, by) =>
      changing(name, async (tx, { id }) => {
        const paused = await tx.maybeOne(pauseSchedule, [id, reason]);
        if (paused) await audit(tx, by, { action: 'schedule.pause', target: name, reason });
        return mine(tx, name);
      }),
    resume: (name, by) =>
      changing(name, async (tx, { id }) => {
        const resumed = await tx.maybeOne(resumeSchedule, [id]);
        if (resumed) await audit(tx, by, { action: 'schedule.resume', target: name });
        return mine(tx, name);
      }),
    remove: async (name, check, by) =>
      (await changing(name, async (tx, present) => {
        check(present);
        await tx.many(deleteSchedule, [present.id]);
        await audit(tx, by, { action: 'schedule.delete', target: name });
        return true;
      })) ?? false,
  };

  /** Says what was decided of slots, once it is committed. */
  function tell(name: string, given: GivenUp | null): void {
    for (const { through: _, ...verdict } of given?.skipped ?? []) {
      const lateness_ms = (given as GivenUp).now.getTime() - verdict.due_at.getTime();
      events.emit('slot.decided', { ...verdict, schedule: name, job_id: null, lateness_ms });
    }
  }

  async function changing<T>(
    name: string,
    change: (tx: Db, present: LockedSchedule) => Promise<T>,
  ): Promise<T | undefined> {
    return db.transaction(async (tx) => {
      const present = await tx.maybeOne(lockSchedule, [tenant, name]);
      return present === undefined ? undefined : change(tx, present);
    });
  }
}

/** A schedule as its change leaves it, read before another may change it. */
async function mine(tx: Db, name: string): Promise<WholeSchedule> {
  return (await wholeOf(tx, name)) as WholeSchedule;
}

async function wholeOf(db: Db, name: string): Promise<WholeSchedule | undefined> {
  const row = await db.maybeOne(findSchedule, [tenant, name]);
  if (row === undefined) return undefined;
  const [facts] = await withLast(db, [row]);
  return { ...(facts as ScheduleFacts), payload: row.payload };
}

async function withLast(db: Db, rows: readonly ReadSchedule[]): Promise<ScheduleFacts[]> {
  if (rows.length === 0) return [];
  const newest = await db.many(newestSlots, [rows.map((row) => row.id)]);
  const byId = new Map<number, RunFacts>(newest.map(({ schedule_id, ...run }) => [schedule_id, run]));
  return rows.map((row) => ({ ...row, last: byId.get(row.id) ?? null }));
}

/** The slots that a change of definition gave up, because they were too many to be owed. */
interface GivenUp {
  now: Date;
  skipped: readonly Verdict[];
}

/** False: somebody else has just made it. */
async function create(tx: Db, name: string, { definition, payload }: Wish): Promise<boolean> {
  const { now } = await tx.one(readNow);
  const next = nextOf(definition, name, now);
  const params = [tenant, name, JSON.stringify(definition), payload, now, next?.slot, next?.due_at];
  return (await tx.maybeOne(insertSchedule, params)) !== undefined;
}

/** Puts another definition in force from now on; slots that were due under the old one are owed. */
async function replace(tx: Db, name: string, present: LockedSchedule, wish: Wish): Promise<GivenUp> {
  // Two transactions may begin in another order than they get the lock.
  const now = new Date(Math.max(present.now.getTime(), present.watermark.getTime()));
  const { slots, folded } = await outstandingOf(present, name, now);
  const skipped = folded === null ? [] : await giveUp(tx, present, folded, now);
  const owed = [...present.owed, ...slots];
  const next = nextOf(wish.definition, name, now);
  const isWaiting = owed.length > 0 || present.held !== null;
  await tx.many(replaceSchedule, [
    ...[present.id, JSON.stringify(wish.definition), wish.payload, now, owed],
    ...[next?.slot, isWaiting ? now : next?.due_at],
  ]);
  return { now, skipped };
}

/** The slots that a definition leaves behind. Of one that is no longer valid (its zone is gone), only the next is known. */
async function outstandingOf(present: LockedSchedule, name: string, now: Date): Promise<Outstanding> {
  const { definition, watermark, next_slot, owed } = present;
  try {
    const left = Math.max(1, most_owed - owed.length);
    return await unhurried(outstanding(cadenceOf(definition, name), watermark, now, left));
  } catch (error) {
    if (!(error instanceof CadenceFault)) throw error;
    const isDue = next_slot !== null && next_slot > watermark && next_slot <= now;
    return { slots: isDue ? [next_slot] : [], folded: null };
  }
}

/** Slots that are too many to be owed are skipped together. */
async function giveUp(
  tx: Db,
  present: LockedSchedule,
  folded: FoldedSlots,
  now: Date,
): Promise<readonly Verdict[]> {
  const { definition, paused_at, resumed_at } = present;
  const { verdicts } = judge(definition, {
    ...{ now, slots: [], folded, held: null, open: 0, room: { verdicts: 1, jobs: 0 } },
    ...{ paused_at, resumed_at },
  });
  const rows = verdicts.map((verdict) => ({ ...verdict, schedule_id: present.id, job_id: null }));
  await recordSlots(tx, null, rows, []);
  return verdicts;
}

/** The first slot after a moment, and when it is due. */
export function nextOf(definition: Definition, name: string, after: Date): DueSlot | null {
  const slot = cadenceOf(definition, name).next(after);
  return slot === null ? null : { slot, due_at: dueOf(slot, definition.jitter_seconds, name) };
}

/** Whether a schedule is as it is wished already. What is kept went through JSON. */
function isSame({ definition, payload }: Wish, wish: Wish): boolean {
  return (
    payload === wish.payload && isDeepStrictEqual(definition, JSON.parse(JSON.stringify(wish.definition)))
  );
}

/** For the audit: which members a change sets. Not their values, which may hold secrets of targets. */
function changesOf(present: LockedSchedule | undefined, { definition, payload }: Wish): object {
  if (present === undefined) return { is_new: true };
  const kept = present.definition as unknown as Record<string, unknown>;
  const wished = JSON.parse(JSON.stringify(definition)) as Record<string, unknown>;
  const members = [...new Set([...Object.keys(kept), ...Object.keys(wished)])];
  const changed = members.filter((member) => !isDeepStrictEqual(kept[member], wished[member]));
  return { changed: payload === present.payload ? changed : [...changed, 'job.payload'] };
}
