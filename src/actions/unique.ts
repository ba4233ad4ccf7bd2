// Stores jobs of which some have a unique key: finds out who holds each key, and makes of it who is stored, who waits, and
// who is answered with the holder.
// Invariants: keys are locked before anything else, and held until the commit; a job that is superseded was taken out of
// where it waits in the same transaction, so it cannot run; every job gets an answer that names a job.
// Next room: store/unique.ts; domain/unique.ts, which decides; submit.ts and submit-all.ts, which ask.
import type { RequestKey } from '../domain/idempotency.ts';
import type { JobState } from '../domain/job.ts';
import { Problem } from '../domain/problem.ts';
import { fateOf, holds } from '../domain/unique.ts';
import { insertCallbacks, type Told } from '../store/callbacks.ts';
import type { Db } from '../store/db.ts';
import { findIdempotent, type Inserted, insertJobs, type NewJob } from '../store/inserts.ts';
import { takeOut } from '../store/jobs.ts';
import {
  findHolders,
  type Held,
  type LetGo,
  letGo,
  lockKeys,
  nameJobs,
  reserveId,
  setHolders,
} from '../store/unique.ts';
import type { ReadyHead } from './ready.ts';

/** What became of one job; `held`: the key's holder stands for it, or is why it was refused. */
export type Kept =
  | { kind: 'made'; made: NonNullable<Inserted>; blocked_by: string | null }
  | { kind: 'known'; id: string; print: Buffer }
  | { kind: 'held'; id: string }
  | { kind: 'refused'; id: string; state: JobState };

/** A job that another took the place of. */
export interface Superseded {
  id: string;
  lane: number;
  type: string | null;
  from: JobState;
}

/** What one transaction did, to be told after its commit. */
export interface KeptAll {
  /** In the order of the jobs; undefined: a job without a unique key whose idempotency key names another. */
  kept: (Kept | undefined)[];
  heads: ReadyHead[];
  first_block: string | null;
  superseded: Superseded[];
  /** Jobs that waited for a holder and go on. */
  gone: LetGo[];
  callbacks: Told[];
}

/** The job that stands for one that was to be stored: itself, or the one that was there. */
export function idOf(kept: Kept): string {
  return kept.kind === 'made' ? kept.made.id : kept.id;
}

/** Keys change hands between two tries of one submit: then it looks once more. */
const tries = 20;
const tenant = 0;

/** Whether a job has a unique key. */
export function isKeyed({ options }: NewJob): boolean {
  return options?.unique !== undefined;
}

/**
 * Stores jobs, those with a unique key first. `tx` must be a transaction in which nothing was locked that a submit locks.
 * Run it by `retried`.
 */
export async function keepEach(tx: Db, jobs: readonly NewJob[]): Promise<KeptAll> {
  const all: KeptAll = {
    kept: jobs.map(() => undefined),
    heads: [],
    first_block: null,
    superseded: [],
    gone: [],
    callbacks: [],
  };
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

/** Who holds the keys. Where a job waits for a holder that has let go, it goes first: it came before whoever asks. */
async function heldNow(tx: Db, keys: string[], all: KeptAll): Promise<Map<string, Held>> {
  const holders = await tx.many(findHolders, [tenant, keys]);
  const gone = await letFirstGo(tx, holders);
  if (gone.length === 0) return new Map(holders.map((one) => [one.key, one]));
  for (const { lane, prio, block } of gone) if (block !== null) noteBlocks(all, [{ lane, prio }], block);
  all.gone.push(...gone);
  return new Map((await tx.many(findHolders, [tenant, keys])).map((one) => [one.key, one]));
}

/** Lets the first who waits for each of these keys go on, where nobody holds the key; the keys are locked. */
export async function letFirstGo(tx: Db, holders: readonly Held[]): Promise<LetGo[]> {
  const free = holders.flatMap((one) =>
    one.first_waiting !== null && !holds(one) ? [one.first_waiting] : [],
  );
  if (free.length === 0) return [];
  const gone = await tx.many(letGo, [free]);
  if (gone.length > 0)
    await tx.many(setHolders, [tenant, gone.map(({ key }) => key), gone.map(({ job_id }) => job_id)]);
  return gone;
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
    const fate = fateOf(one.job.options?.unique?.on_conflict ?? 'return', holder);
    if (fate === 'return' || fate === 'refuse') {
      all.kept[one.i] = await answered(tx, one.job, holder, fate);
      line.shift();
      continue;
    }
    let id: string | undefined;
    if (fate === 'replace' || (fate === 'wait' && holder.rerun !== null)) {
      id = (await tx.one(reserveId)).id;
      const superseded = fate === 'replace' ? holder.job_id : (holder.rerun as string);
      const isOut = await takeAway(tx, superseded, `superseded by job ${id}`, all);
      // It has started, or ended: the next look says what that means.
      if (!isOut) return null;
    }
    line.shift();
    return { ...one, id, blocked_by: fate === 'wait' ? holder.job_id : null };
  }
  return null;
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

/** Takes a job that waits out of its place and ends it; false: it has started or ended. */
async function takeAway(tx: Db, id: string, why: string, all: KeptAll): Promise<boolean> {
  let before: string | null | undefined;
  for (let n = 0; n < tries; n++) {
    const { taken, blk, lane, type, callback, state } = await tx.one(takeOut, [
      id,
      'cancelled',
      anyEpoch,
      why,
      true,
    ]);
    if (taken > 0) {
      all.superseded.push({ id, lane: lane as number, type, from: state as JobState });
      if (callback) all.callbacks.push(...(await tx.many(insertCallbacks, [[id]])));
      return true;
    }
    if (blk === before) return false;
    before = blk;
  }
  return false;
}

const anyEpoch = 2_147_483_647;

async function insert(tx: Db, next: readonly Next[], all: KeptAll): Promise<void> {
  const flushed = await insertJobs(
    tx,
    next.map(({ job, id, blocked_by }) => ({
      ...job,
      ...(id === undefined ? {} : { id }),
      waits: blocked_by !== null,
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
  if (holders.length === 0) return;
  await tx.many(setHolders, [tenant, holders.map(({ key }) => key), holders.map(({ id }) => id)]);
}

/** Heads that became ready, and the lowest of all new blocks: it may be behind a cursor when the commit comes late. */
function noteBlocks(all: KeptAll, heads: readonly ReadyHead[], first: string): void {
  all.heads.push(...heads);
  if (all.first_block === null || BigInt(first) < BigInt(all.first_block)) all.first_block = first;
}
