// Stores jobs of which some have a unique key: finds out who holds each key, and makes of it who is stored, who waits, and
// who is answered with the holder.
// Invariants: keys are locked before anything else, and held until the commit; of those that wait to run after a holder the
// newest is left; every job gets an answer that names a job.
// Next room: known.ts, for requests that come again; holders.ts, which looks and makes room; domain/unique.ts, which
// decides; submit.ts and submit-all.ts, which ask.
import type { JobState } from '../domain/job.ts';
import { Problem } from '../domain/problem.ts';
import { tenant } from '../domain/tenant.ts';
import { type Fate, fateOf, type Holder, holds, type OnConflict, type Unique } from '../domain/unique.ts';
import { insertCallbacks } from '../store/callbacks.ts';
import type { Db } from '../store/db.ts';
import { insertJobs, type NewJob } from '../store/inserts.ts';
import {
  findBusyKeys,
  type Held,
  lockKeys,
  reserveIds,
  setHolders,
  supersede,
  takePlaces,
} from '../store/unique.ts';
import { heldNow, type Left, takeAway } from './holders.ts';
import { idOf, type Kept, type KeptAll, noteBlocks, nothingKept } from './kept.ts';
import { answerKnown, apart, nameHolder, Overtaken, repeated, type Waiting } from './known.ts';

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

/** The same of jobs that all have a unique key, and of them those alone whose key nobody else has at the moment. */
export async function keepFree(tx: Db, jobs: readonly NewJob[]): Promise<KeptAll> {
  const all = nothingKept(jobs.length);
  const rows = await tx.many(findBusyKeys, [tenant, [...new Set(jobs.map(keyOf))]]);
  const busy = new Set(rows.map(({ key }) => key));
  const free = jobs.flatMap((job, i) => (busy.has(keyOf(job)) ? [] : [{ job, i }]));
  if (free.length > 0) await keepUnique(tx, free, all);
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
  const nextId = reserving(tx, jobs.length);
  for (let idle = 0; lines.size > 0; ) {
    if (idle++ >= tries)
      throw new Problem('database-unavailable', { detail: 'the holder of the key kept moving; try again' });
    const holders = await heldNow(tx, [...lines.keys()], all);
    const next: Next[] = [];
    for (const [key, line] of lines) {
      const holder = holders.get(key);
      if (holder !== undefined) next.push(...(await turnOf(tx, line, holder, { all, nextId })));
      if (line.length === 0) lines.delete(key);
    }
    if (next.length === 0) continue;
    await insert(tx, next, all);
    idle = 0;
  }
  for (const { i, first } of repeats) all.kept[i] = repeated(first, all.kept[first.i] as Kept);
}

/** A job that is to be stored, as the holder of its key or waiting for that one. */
interface Next extends Waiting {
  id: string | undefined;
  blocked_by: string | null;
  /** Where the job stood in the line that it supersedes. */
  place: Left['place'];
  /** The one of the same call that takes its place at once. */
  superseded_by: string | undefined;
}

function uniqueOf({ options }: NewJob): Unique {
  return options?.unique as Unique;
}

function keyOf(job: NewJob): string {
  return uniqueOf(job).key;
}

/**
 * Takes one after the other from the front of a line: answers it, or says how it is to be stored. Those behind it meet the
 * holder it will be, so that a crowd with one key costs a few statements.
 */
async function turnOf(
  tx: Db,
  line: Waiting[],
  holder: Held,
  { all, nextId }: { all: KeptAll; nextId: () => Promise<string> },
): Promise<Next[]> {
  const turn: Next[] = [];
  let present = holder;
  for (let one = line[0]; one !== undefined; one = line[0]) {
    const { job } = one;
    const wish = uniqueOf(job).on_conflict;
    const fate = fateOf(wish, present);
    if (fate === 'return' || fate === 'refuse') {
      all.kept[one.i] = await answered(tx, job, present, fate);
      line.shift();
      continue;
    }
    const outs = supersededBy(wish, fate, present);
    const id = outs.length > 0 || line.length > 1 ? await nextId() : undefined;
    const left: Left[] = [];
    for (const out of outs) {
      const ours = turn.find((other) => other.id === out);
      const its = ours ?? (await takeAway(tx, out, `superseded by job ${id}`, all));
      // The holder has started, or ended: the next look says what that means.
      if (its === null && left.length === 0) return turn;
      if (its !== null) left.push(its);
      if (ours !== undefined) ours.superseded_by = id;
    }
    line.shift();
    const blocked_by = fate === 'wait' ? present.job_id : null;
    turn.push({ ...one, id, blocked_by, place: placeFor(job, left[0]), superseded_by: undefined });
    if (id === undefined) break;
    const rerun = present.rerun !== null && outs.includes(present.rerun) ? null : present.rerun;
    present = fate === 'wait' ? { ...present, rerun: id } : { ...present, ...holderOf(job, id), rerun };
    // Whether its moment has come is the database's to say, and may decide whether it holds the key.
    if (present.state === 'scheduled' && !holds(present)) break;
  }
  return turn;
}

/** The holder that a job will be. */
function holderOf(job: NewJob, job_id: string): Holder {
  const { while: holding, window_seconds } = uniqueOf(job);
  const state = job.run_at === null && job.delay_ms === null ? 'queued' : 'scheduled';
  return { job_id, state, holding, in_window: window_seconds !== undefined, set_aside: false };
}

/** Ids for jobs that are named before they are made, so many at a time. */
function reserving(tx: Db, most: number): () => Promise<string> {
  const ids: string[] = [];
  return async () => {
    if (ids.length === 0) ids.push(...(await tx.many(reserveIds, [most])).map(({ id }) => id));
    return ids.shift() as string;
  };
}

/** Whom a job supersedes. The news of one that is to run once more is older than that of whoever comes with news. */
function supersededBy(wish: OnConflict, fate: Fate, { job_id, rerun }: Held): string[] {
  const holder = fate === 'replace' ? [job_id] : [];
  const waits = (fate === 'replace' || fate === 'wait') && (wish === 'replace' || wish === 'rerun');
  return waits && rerun !== null ? [...holder, rerun] : holder;
}

/** Its place, where the job is to stand in the same line: else one that is replaced often enough never runs. */
function placeFor({ lane, priority }: NewJob, left: Left | undefined): Left['place'] {
  const place = left?.place;
  return place && place.lane === lane && place.prio === priority ? place : null;
}

async function answered(
  tx: Db,
  { idempotency }: NewJob,
  holder: Held,
  fate: 'return' | 'refuse',
): Promise<Kept> {
  const { job_id: id, state } = holder;
  if (fate === 'refuse') return { kind: 'refused', id, state: state as JobState };
  if (idempotency !== null) await nameHolder(tx, idempotency, id);
  return { kind: 'held', id };
}

async function insert(tx: Db, next: readonly Next[], all: KeptAll): Promise<void> {
  const flushed = await insertJobs(
    tx,
    next.map(({ job, id, blocked_by, place, superseded_by }) => ({
      ...job,
      ...(id === undefined ? {} : { id }),
      waits: blocked_by !== null || superseded_by !== undefined,
      alone: place !== null && superseded_by === undefined,
    })),
  );
  next.forEach(({ i, blocked_by }, n) => {
    const made = flushed.inserted[n];
    if (made == null) throw new Overtaken();
    all.kept[i] = { kind: 'made', made, blocked_by };
  });
  noteBlocks(all, flushed.heads, flushed.first_block);
  const last = next.filter(({ superseded_by }) => superseded_by === undefined);
  if (last.length < next.length) await supersedeAtOnce(tx, next, all);
  await keepPlaces(tx, last, all);
  for (const { job, blocked_by } of last)
    if (blocked_by !== null) all.waits.push({ holder: blocked_by, key: keyOf(job) });
  const holders = last.flatMap(({ job, i, blocked_by }) =>
    blocked_by === null ? [{ key: keyOf(job), id: idOf(all.kept[i] as Kept) }] : [],
  );
  if (holders.length === 0) return;
  await tx.many(setHolders, [tenant, holders.map(({ key }) => key), holders.map(({ id }) => id)]);
}

/** Ends those of a call whose place another of the same call takes: they were parked, and nobody has seen them. */
async function supersedeAtOnce(tx: Db, next: readonly Next[], all: KeptAll): Promise<void> {
  const outs = next.flatMap(({ job, id, blocked_by, superseded_by }) =>
    id === undefined || superseded_by === undefined ? [] : [{ job, id, blocked_by, superseded_by }],
  );
  await tx.many(supersede, [outs.map(({ id }) => id), outs.map((one) => one.superseded_by)]);
  const wanting = outs.filter(({ job }) => job.options?.callback !== undefined).map(({ id }) => id);
  if (wanting.length > 0) all.callbacks.push(...(await tx.many(insertCallbacks, [wanting])));
  for (const { job, id, blocked_by } of outs) {
    const from = blocked_by === null ? 'queued' : 'blocked';
    all.superseded.push({ id, lane: job.lane, type: job.options?.type ?? null, from });
  }
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
