// Stores jobs of which some have a unique key: finds out who holds each key, and makes of it who is stored, who waits, and
// who is answered with the holder.
// Invariants: keys are locked before anything else, and held until the commit; of those that wait to run after a holder the
// newest is left; every job gets an answer that names a job.
// Next room: holders.ts, which looks and makes room; domain/unique.ts, which decides; submit.ts and submit-all.ts, which ask.
import type { RequestKey } from '../domain/idempotency.ts';
import type { JobState } from '../domain/job.ts';
import { Problem } from '../domain/problem.ts';
import { tenant } from '../domain/tenant.ts';
import { type Fate, fateOf, type OnConflict } from '../domain/unique.ts';
import type { Db } from '../store/db.ts';
import { findIdempotent, insertJobs, type NewJob } from '../store/inserts.ts';
import { type Held, lockKeys, nameJobs, reserveId, setHolders, takePlaces } from '../store/unique.ts';
import { heldNow, type Left, takeAway } from './holders.ts';
import { idOf, type Kept, type KeptAll, noteBlocks, nothingKept } from './kept.ts';

/** Keys change hands between two tries of one submit: then it looks once more. */
const tries = 20;

/** Whether a job has a unique key. */
export function isKeyed({ options }: NewJob): boolean {
  return options?.unique !== undefined;
}

/**
 * Stores jobs, those with a unique key first. `tx` must be a transaction in which nothing was locked that a submit locks.
 * Run it by `retried`.
 */
export async function keepEach(tx: Db, jobs: readonly NewJob[]): Promise<KeptAll> {
  const all = nothingKept(jobs.length);
  const { keyed = [], plain = [] } = Object.groupBy(
    jobs.map((job, i) => ({ job, i })),
    ({ job }) => (isKeyed(job) ? 'keyed' : 'plain'),
  );
  if (keyed.length > 0) await keepUnique(tx, keyed, all);
  if (plain.length > 0) {
    const { inserted, heads, first_block } = await insertJobs(
      tx,
      plain.map(({ job }) => job),
    );
    inserted.forEach((made, n) => {
      if (made !== null) all.kept[(plain[n] as Waiting).i] = { kind: 'made', made, blocked_by: null };
    });
    noteBlocks(all, heads, first_block);
  }
  return all;
}

async function keepUnique(tx: Db, jobs: readonly Waiting[], all: KeptAll): Promise<void> {
  await tx.many(lockKeys, [tenant, [...new Set(jobs.map(({ job }) => keyOf(job)))]]);
  const { firsts, repeats } = apart(jobs);
  await answerKnown(tx, firsts, all.kept);
  const lines = Map.groupBy(
    firsts.filter(({ i }) => all.kept[i] === undefined),
    ({ job }) => keyOf(job),
  );
  for (let idle = 0; lines.size > 0; ) {
    if (idle++ >= tries)
      throw new Problem('database-unavailable', { detail: 'the holder of the key kept moving; try again' });
    const holders = await heldNow(tx, [...lines.keys()], all);
    const next: Next[] = [];
    for (const [key, line] of lines) {
      const chosen = await firstStored(tx, line, holders.get(key), all);
      if (chosen !== null) next.push(chosen);
      if (line.length === 0) lines.delete(key);
    }
    if (next.length === 0) continue;
    await insert(tx, next, all);
    idle = 0;
  }
  for (const { i, first } of repeats) all.kept[i] = repeated(first, all.kept[first.i] as Kept);
}

interface Waiting {
  job: NewJob;
  /** Its place among the jobs of the call. */
  i: number;
}

/** A job that is to be stored, as the holder of its key or waiting for that one. */
interface Next extends Waiting {
  id: string | undefined;
  blocked_by: string | null;
  /** Where the job stood in the line that it supersedes. */
  place: Left['place'];
}

function keyOf({ options }: NewJob): string {
  return options?.unique?.key ?? '';
}

/** One call may hold the same request twice: the second is answered as a repeat of the first. */
function apart(jobs: readonly Waiting[]): { firsts: Waiting[]; repeats: { i: number; first: Waiting }[] } {
  const firsts: Waiting[] = [];
  const repeats: { i: number; first: Waiting }[] = [];
  const byKey = new Map<string, Waiting>();
  for (const one of jobs) {
    const { idempotency } = one.job;
    const name =
      idempotency === null ? null : JSON.stringify([idempotency.tenant, idempotency.route, idempotency.key]);
    const first = name === null ? undefined : byKey.get(name);
    if (first !== undefined) repeats.push({ i: one.i, first });
    else firsts.push(one);
    if (name !== null && first === undefined) byKey.set(name, one);
  }
  return { firsts, repeats };
}

function repeated({ job }: Waiting, kept: Kept): Kept {
  if (kept.kind === 'refused' || kept.kind === 'known') return kept;
  return { kind: 'known', id: idOf(kept), print: (job.idempotency as RequestKey).print };
}

/** Requests that were made before are answered with their job, whoever holds the key now. */
async function answerKnown(tx: Db, jobs: readonly Waiting[], kept: KeptAll['kept']): Promise<void> {
  const asked = jobs.flatMap(({ job: { idempotency }, i }) =>
    idempotency === null ? [] : [{ i, ...idempotency }],
  );
  if (asked.length === 0) return;
  const rows = await tx.many(findIdempotent, [
    asked.map((one) => one.tenant),
    asked.map((one) => one.route),
    asked.map((one) => one.key),
  ]);
  for (const { n, job_id: id, print } of rows)
    kept[(asked[n - 1] as { i: number }).i] = { kind: 'known', id, print };
}

/** Answers those at the front of a line that are not stored; the first that is to be stored ends the turn of its key. */
async function firstStored(
  tx: Db,
  line: Waiting[],
  holder: Held | undefined,
  all: KeptAll,
): Promise<Next | null> {
  if (holder === undefined) return null;
  for (let one = line[0]; one !== undefined; one = line[0]) {
    const wish = one.job.options?.unique?.on_conflict ?? 'return';
    const fate = fateOf(wish, holder);
    if (fate === 'return' || fate === 'refuse') {
      all.kept[one.i] = await answered(tx, one.job, holder, fate);
      line.shift();
      continue;
    }
    const blocked_by = fate === 'wait' ? holder.job_id : null;
    const [first, ...others] = supersededBy(wish, fate, holder);
    if (first === undefined) {
      line.shift();
      return { ...one, id: undefined, blocked_by, place: null };
    }
    const { id } = await tx.one(reserveId);
    const why = `superseded by job ${id}`;
    const left = await takeAway(tx, first, why, all);
    // It has started, or ended: the next look says what that means.
    if (left === null) return null;
    for (const other of others) await takeAway(tx, other, why, all);
    line.shift();
    return { ...one, id, blocked_by, place: placeFor(one.job, left) };
  }
  return null;
}

/** Whom a job supersedes. The news of one that is to run once more is older than that of whoever comes with news. */
function supersededBy(wish: OnConflict, fate: Fate, { job_id, rerun }: Held): string[] {
  const holder = fate === 'replace' ? [job_id] : [];
  const waits = (fate === 'replace' || fate === 'wait') && (wish === 'replace' || wish === 'rerun');
  return waits && rerun !== null ? [...holder, rerun] : holder;
}

/** Its place, where the job is to stand in the same line: else one that is replaced often enough never runs. */
function placeFor({ lane, priority }: NewJob, { place }: Left): Left['place'] {
  return place !== null && place.lane === lane && place.prio === priority ? place : null;
}

async function answered(
  tx: Db,
  { idempotency }: NewJob,
  holder: Held,
  fate: 'return' | 'refuse',
): Promise<Kept> {
  const { job_id: id, state } = holder;
  if (fate === 'refuse') return { kind: 'refused', id, state: state as JobState };
  // A repeat of this request is to find the same job, also when that has let go of the key.
  if (idempotency !== null) await nameHolder(tx, idempotency, id);
  return { kind: 'held', id };
}

async function nameHolder(tx: Db, { tenant: of, route, key, print }: RequestKey, id: string): Promise<void> {
  const named = await tx.many(nameJobs, [[of], [route], [key], [id], [print.toString('hex')]]);
  if (named.length === 0) throw new Overtaken();
}

/** Another request with the same idempotency key was stored meanwhile: what this transaction did must not be. */
class Overtaken extends Error {}

/** Runs a transaction that stores jobs; begins again where it was overtaken. */
export async function retried<T>(transact: () => Promise<T>): Promise<T> {
  for (let n = 0; n < tries; n++) {
    try {
      return await transact();
    } catch (error) {
      if (!(error instanceof Overtaken)) throw error;
    }
  }
  throw new Problem('database-unavailable', {
    detail: 'other requests with this Idempotency-Key kept coming; try again',
  });
}

async function insert(tx: Db, next: readonly Next[], all: KeptAll): Promise<void> {
  const flushed = await insertJobs(
    tx,
    next.map(({ job, id, blocked_by, place }) => ({
      ...job,
      ...(id === undefined ? {} : { id }),
      waits: blocked_by !== null,
      alone: place !== null,
    })),
  );
  const holders: { key: string; id: string }[] = [];
  next.forEach(({ job, i, blocked_by }, n) => {
    const made = flushed.inserted[n];
    if (made == null) throw new Overtaken();
    all.kept[i] = { kind: 'made', made, blocked_by };
    if (blocked_by === null) holders.push({ key: keyOf(job), id: made.id });
  });
  noteBlocks(all, flushed.heads, flushed.first_block);
  await keepPlaces(tx, next, all);
  if (holders.length === 0) return;
  await tx.many(setHolders, [tenant, holders.map(({ key }) => key), holders.map(({ id }) => id)]);
}

async function keepPlaces(tx: Db, next: readonly Next[], all: KeptAll): Promise<void> {
  const kept = next.flatMap(({ i, place }) => {
    const one = all.kept[i];
    const isReady = one?.kind === 'made' && !one.made.scheduled;
    return place === null || !isReady ? [] : [{ id: one.made.id, ...place }];
  });
  if (kept.length === 0) return;
  await tx.many(takePlaces, [
    kept.map(({ id }) => id),
    kept.map(({ ord }) => ord),
    kept.map(({ since }) => since),
  ]);
  all.places.push(...kept.map(({ lane, prio, ord }) => ({ lane, prio, ord })));
}
