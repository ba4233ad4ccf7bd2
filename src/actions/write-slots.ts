// Writes verdicts down: jobs, rows of the ledger and the advance of the schedules, in one transaction that holds the term.
// Invariants: all of it or nothing; a schedule that is not as it was read is left alone; a slot is told with the lateness it
// has when it is written.
// Next room: fire.ts, which decides what is written together; store/slots.ts, whose statements these are.
import { isFired, lateBy, toldAt } from '../domain/firing.ts';
import type { PolicyOf } from '../domain/policy.ts';
import type { Events } from '../events.ts';
import type { Db, Pool } from '../store/db.ts';
import type { NewJob } from '../store/inserts.ts';
import type { Lanes } from '../store/lanes.ts';
import { dispatcherRoom, holdTerm } from '../store/leader.ts';
import { awaitSchedules, lockSchedules, recordSlots } from '../store/slots.ts';
import type { Case } from './due.ts';
import { idOf, type Kept, type KeptAll } from './kept.ts';
import { retried } from './known.ts';
import { granted, placed } from './submit.ts';
import { keepEach } from './unique.ts';

/** What was written. */
export interface Written {
  cases: readonly Case[];
  /** What became of the jobs, and when the transaction that stored them began. */
  all: KeptAll;
  began: number;
  decided: readonly Events['slot.decided'][];
  submitted: readonly Events['job.submitted'][];
}

/**
 * Writes cases; with `waits` those that somebody holds too, else they are left out. Null: the term is over, and nothing was
 * written.
 */
export async function writeSlots(
  term: string,
  cases: readonly Case[],
  waits: boolean,
  { db, lanes, policyOf }: { db: Pool; lanes: Lanes; policyOf: PolicyOf },
): Promise<Written | null> {
  // Lanes are found before the transaction: that takes a connection of its own.
  const jobsOf = new Map<Case, NewJob[]>();
  for (const one of cases) {
    const jobs: NewJob[] = [];
    for (const submission of one.submissions) jobs.push(await placed(granted(submission, policyOf), lanes));
    jobsOf.set(one, jobs);
  }
  const began = performance.now();
  const write = async (tx: Db): Promise<Written | null> => {
    const held = await tx.maybeOne(holdTerm, [dispatcherRoom, term]);
    if (held === undefined) return null;
    const { now } = held;
    const locked = await tx.many(waits ? awaitSchedules : lockSchedules, [
      cases.map(({ row }) => row.id),
      cases.map(({ row }) => row.version),
      cases.map(({ row }) => row.turn),
      cases.map(({ submissions }) => submissions.length > 0),
    ]);
    const payloads = new Map(locked.map(({ id, payload }) => [id, payload]));
    const unchanged = cases.filter(({ row }) => payloads.has(row.id));
    const jobs = unchanged.flatMap((one) =>
      (jobsOf.get(one) ?? []).map((job) => ({ ...job, payload: payloads.get(one.row.id) ?? 'null' })),
    );
    const all = await keepEach(tx, jobs);
    // A slot whose key is held is a slot for which the holder stands.
    const ids = all.kept.map((one) => (one === undefined ? null : idOf(one))).values();
    const submitted = unchanged
      .flatMap(({ submissions }) => submissions)
      .map(({ queue, type }, n) => {
        const kept = all.kept[n] as Kept;
        const state =
          kept.kind === 'made' && kept.blocked_by !== null ? ('blocked' as const) : ('queued' as const);
        const { lane } = jobs[n] as NewJob;
        return { job_id: idOf(kept), lane, queue, type, state, replayed: kept.kind !== 'made' };
      });
    const rows = unchanged.flatMap((one) =>
      one.verdicts.map((verdict) => ({
        ...toldAt(verdict, now),
        schedule: one.row.name,
        schedule_id: one.row.id,
        job_id: isFired(verdict) ? (ids.next().value ?? null) : null,
      })),
    );
    await recordSlots(
      tx,
      term,
      rows,
      unchanged.map(({ advance }) => advance),
    );
    return {
      cases: unchanged,
      all,
      began,
      submitted,
      decided: rows.map(({ schedule_id: _, through: __, ...row }) => ({
        ...row,
        lateness_ms: lateBy(row, now),
      })),
    };
  };
  return retried(() => db.transaction(write));
}
