// Keeps schedules: defines, changes, pauses and deletes them, and shows them.
// Invariants: two changes of one schedule are made one after the other, the second judged by what the first left; a
// definition that is already in force is not written again; what was due under the old one stays due under the new one.
// Next room: store/schedules.ts; trigger.ts and runs.ts for what else can be asked of a schedule; fire.ts, which fires.
import { isDeepStrictEqual } from 'node:util';
import { cadenceOf, outstanding } from '../domain/cadence.ts';
import { issueCursor, readCursor } from '../domain/cursor.ts';
import { type DueSlot, type FoldedSlots, judge, type Verdict } from '../domain/firing.ts';
import { dueOf } from '../domain/jitter.ts';
import { Problem } from '../domain/problem.ts';
import type { Definition } from '../domain/schedule.ts';
import { type RunFacts, type ScheduleFacts, type ScheduleState, stateOf } from '../domain/schedule-record.ts';
import type { EventBus } from '../events.ts';
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
  put(name: string, wish: Wish, check: Check): Promise<'created' | 'changed' | 'unchanged'>;
  /** Changes a schedule to what `make` says of it; false: there is none. */
  patch(name: string, make: (present: LockedSchedule) => Wish): Promise<boolean>;
  /** Pauses, resumes or deletes; repeated it changes nothing. False: there is no such schedule. */
  pause(name: string, reason: string | null): Promise<boolean>;
  resume(name: string): Promise<boolean>;
  remove(name: string, check: (present: LockedSchedule) => void): Promise<boolean>;
}

export const tenant = 0;
/** Rows one page looks at, at most, where not all of them fit. */
export const most_looked = 1_000;
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

    async find(name) {
      const row = await db.maybeOne(findSchedule, [tenant, name]);
      if (row === undefined) return undefined;
      const [facts] = await withLast([row]);
      return { ...(facts as ScheduleFacts), payload: row.payload };
    },

    async page(state, limit, cursor) {
      const question = JSON.stringify(['schedules', tenant, state ?? null]);
      const from = cursor === undefined ? [''] : readCursor(cursor, question, secret);
      if (from === null) throw foreignCursor();
      const looked = state === undefined ? limit + 1 : Math.max(limit + 1, most_looked);
      const walked = await db.many(walkSchedules, [tenant, from[0], looked]);
      const fitting = walked.filter((one) => state === undefined || stateOf(one) === state);
      const items = fitting.slice(0, limit);
      const last =
        fitting.length > limit ? items.at(-1) : walked.length === looked ? walked.at(-1) : undefined;
      return {
        items: await withLast(await db.many(findSchedules, [items.map((one) => one.id)])),
        next_cursor: last === undefined ? null : issueCursor([last.name], question, secret),
      };
    },

    async put(name, wish, check) {
      for (let n = 0; n < tries; n++) {
        const done = await db.transaction(async (tx) => {
          const present = await tx.maybeOne(lockSchedule, [tenant, name]);
          const same = present !== undefined && isSame(present, wish);
          check(present, same);
          if (present === undefined) return create(tx, name, wish);
          return same ? 'unchanged' : replace(tx, name, present, wish);
        });
        if (done !== null) return told(name, done);
      }
      throw new Problem('database-unavailable', { detail: `schedule ${name} is being made; try again` });
    },

    async patch(name, make) {
      let done: Done = 'unchanged';
      const isThere = await changing(name, async (tx, present) => {
        const wish = make(present);
        if (!isSame(present, wish)) done = await replace(tx, name, present, wish);
      });
      told(name, done);
      return isThere;
    },
    pause: (name, reason) => changing(name, (tx, { id }) => tx.many(pauseSchedule, [id, reason])),
    resume: (name) => changing(name, (tx, { id }) => tx.many(resumeSchedule, [id])),
    remove: (name, check) =>
      changing(name, (tx, present) => {
        check(present);
        return tx.many(deleteSchedule, [present.id]);
      }),
  };

  /** Says what was decided of slots, once it is committed. */
  function told(name: string, done: Done): 'created' | 'changed' | 'unchanged' {
    if (typeof done === 'string') return done;
    for (const { through: _, ...verdict } of done.skipped) {
      const lateness_ms = done.now.getTime() - verdict.due_at.getTime();
      events.emit('slot.decided', { ...verdict, schedule: name, job_id: null, lateness_ms });
    }
    return 'changed';
  }

  async function changing(
    name: string,
    change: (tx: Db, present: LockedSchedule) => Promise<unknown>,
  ): Promise<boolean> {
    return db.transaction(async (tx) => {
      const present = await tx.maybeOne(lockSchedule, [tenant, name]);
      if (present === undefined) return false;
      await change(tx, present);
      return true;
    });
  }

  async function withLast(rows: readonly ReadSchedule[]): Promise<ScheduleFacts[]> {
    if (rows.length === 0) return [];
    const newest = await db.many(newestSlots, [rows.map((row) => row.id)]);
    const byId = new Map<number, RunFacts>(newest.map(({ schedule_id, ...run }) => [schedule_id, run]));
    return rows.map((row) => ({ ...row, last: byId.get(row.id) ?? null }));
  }
}

/** What a change came to; a replacement with the slots it gave up. */
type Done = 'created' | 'unchanged' | { now: Date; skipped: readonly Verdict[] };

async function create(tx: Db, name: string, { definition, payload }: Wish): Promise<'created' | null> {
  const { now } = await tx.one(readNow);
  const next = nextOf(definition, name, now);
  const params = [tenant, name, JSON.stringify(definition), payload, now, next?.slot, next?.due_at];
  // Null: somebody else has just made it.
  return (await tx.maybeOne(insertSchedule, params)) === undefined ? null : 'created';
}

/** Puts another definition in force from now on; slots that were due under the old one are owed. */
async function replace(tx: Db, name: string, present: LockedSchedule, wish: Wish): Promise<Done> {
  // Two transactions may begin in another order than they get the lock.
  const now = new Date(Math.max(present.now.getTime(), present.watermark.getTime()));
  const old = cadenceOf(present.definition, name);
  const left = Math.max(1, most_owed - present.owed.length);
  const { slots, folded } = await unhurried(outstanding(old, present.watermark, now, left));
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

/** Slots that are too many to be owed are skipped together. */
async function giveUp(
  tx: Db,
  present: LockedSchedule,
  folded: FoldedSlots,
  now: Date,
): Promise<readonly Verdict[]> {
  const { definition, paused_at, resumed_at } = present;
  const { verdicts } = judge(definition, {
    ...{ now, slots: [], folded, held: null, open: 0 },
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

export function foreignCursor(): Problem {
  return new Problem('cursor-invalid', {
    detail: 'the cursor is not one of this list; take it from next_cursor and send the same filters with it',
  });
}
