// Fires a schedule by hand: a job now, and a row in the ledger that says so.
// Invariants: job, row and what the schedule knows of its open jobs commit together; a slot made by hand is never one the
// schedule names itself; a repeat with the same Idempotency-Key finds the same job, whatever became of the schedule.
// Next room: fire.ts, which fires in time; store/schedules.ts.
import type { By } from '../domain/actor.ts';
import type { RequestKey } from '../domain/idempotency.ts';
import type { PolicyOf } from '../domain/policy.ts';
import { Problem } from '../domain/problem.ts';
import type { Definition } from '../domain/schedule.ts';
import { tenant } from '../domain/tenant.ts';
import { audit } from '../store/audit.ts';
import type { Db, Pool } from '../store/db.ts';
import type { NewJob } from '../store/inserts.ts';
import {
  findSchedule,
  type LockedSchedule,
  lockSchedule,
  newestSlotFrom,
  noteJob,
} from '../store/schedules.ts';
import { most_open, recordSlots } from '../store/slots.ts';
import { slotJob } from './due.ts';
import { idOf } from './kept.ts';
import { retried } from './known.ts';
import {
  granted,
  knownJob,
  placed,
  refuse,
  replay,
  type SubmitOptions,
  type Submitted,
  told,
  toldOf,
} from './submit.ts';
import { keepEach } from './unique.ts';

/** Fires a schedule now; undefined: there is no such schedule. Throws what a submit throws. */
export type Trigger = (
  name: string,
  idempotency: RequestKey | null,
  by: By,
) => Promise<Submitted | undefined>;

const tries = 5;

export interface TriggerOptions extends SubmitOptions {
  /** Why a queue takes no job. */
  closed: (queue: string) => Problem | null;
  policyOf: PolicyOf;
}

export function triggering(options: TriggerOptions): Trigger {
  const { db, lanes, keys, policyOf } = options;

  return async (name, idempotency, by) => {
    for (let n = 0; n < tries; n++) {
      const seen = await db.maybeOne(findSchedule, [tenant, name]);
      if (seen === undefined) return formerly(db, idempotency);
      const refusal = options.closed(seen.definition.job.queue);
      if (refusal !== null) {
        const made = await formerly(db, idempotency);
        if (made === undefined) throw refusal;
        return made;
      }
      // Lanes are found before the lock: that takes a connection of its own.
      const asking = { ...slotJob(seen, new Date(0)), payload: seen.payload, idempotency };
      const submission = granted(asking, policyOf);
      const job = await placed(submission, lanes);
      const began = performance.now();
      const fired = await retried(() => db.transaction((tx) => fireByHand(tx, name, seen, job, by))).catch(
        (error) => refuse(error, idempotency !== null),
      );
      if (fired === null) continue;
      const { all, decided } = fired;
      keys.tell(all, began);
      if (decided !== null)
        options.events.emit('slot.decided', { ...decided, schedule: name, lateness_ms: 0 });
      const [kept] = all.kept;
      if (kept !== undefined) return toldOf(submission, job.lane, kept, options, null);
      return told(submission, job.lane, { known: await replay(db, idempotency as RequestKey) }, options);
    }
    throw new Problem('database-unavailable', {
      detail: `schedule ${name} kept changing; try again`,
    });
  };
}

/** What a key names already: a repeat finds its job also when the schedule was deleted meanwhile. */
async function formerly(db: Pool, key: RequestKey | null): Promise<Submitted | undefined> {
  const id = key === null ? undefined : await knownJob(db, key);
  return id === undefined ? undefined : { replayed: true, id };
}

/** Null: the schedule is not the one that was seen any more. */
async function fireByHand(tx: Db, name: string, seen: { id: number; version: number }, job: NewJob, by: By) {
  const present = await tx.maybeOne(lockSchedule, [tenant, name]);
  if (present?.id !== seen.id || present.version !== seen.version) return null;
  const slot = await freeSlot(tx, present);
  const schedule = { name, slot: slot.toISOString() };
  const all = await keepEach(tx, [{ ...job, options: { ...job.options, schedule } }]);
  const [kept] = all.kept;
  if (kept === undefined || kept.kind === 'known' || kept.kind === 'refused') return { all, decided: null };
  const job_id = idOf(kept);
  const decided = { slot, due_at: slot, job_id, slots: 1, outcome: 'manual', reason: null } as const;
  await recordSlots(tx, null, [{ ...decided, schedule_id: present.id, through: null }], []);
  await tx.many(noteJob, [present.id, job_id, most_open]);
  await audit(tx, by, { action: 'schedule.trigger', target: name, facts: { job_id } });
  return { all, decided };
}

/** The present moment, or the first one behind all slots there are that the schedule cannot name. */
async function freeSlot(tx: Db, { id, now, definition }: LockedSchedule): Promise<Date> {
  const newest = await tx.maybeOne(newestSlotFrom, [id, now]);
  let ms = newest === undefined ? now.getTime() : newest.slot.getTime() + 1;
  while (ms % 1_000 === 0 || ms % 1_000 === fractionOf(definition)) ms += 1;
  return new Date(ms);
}

/** Slots lie on whole seconds, or as far beside them as the anchor of an interval does. */
function fractionOf({ every_seconds, starts_at }: Definition): number {
  return every_seconds === null || starts_at === null ? 0 : new Date(starts_at).getUTCMilliseconds();
}
