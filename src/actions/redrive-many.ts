// Redrives many dead letters as an operation: the first few as a canary, at a speed that can be limited.
// Invariants: letters of before it began, each once; no more of them in a time than its limit says.
// Next room: redrive.ts, which makes the jobs; store/letters.ts, the walk.
import type { LetterFilter } from '../domain/dead-letter.ts';
import { biteOf, type Extent, pauseAfter } from '../domain/operation.ts';
import { routesOf } from '../domain/options.ts';
import { tenant } from '../domain/tenant.ts';
import type { Db } from '../store/db.ts';
import {
  countLetters,
  countLettersOfCause,
  countLettersOfLanes,
  type LetterPlace,
  lockLetters,
  type WalkedLetter,
  walkLetters,
  walkLettersOfCause,
  walkLettersOfLanes,
} from '../store/letters.ts';
import { lanesOfQueue, lanesOfType } from '../store/lists.ts';
import { type HeldOperation, insertItems } from '../store/operations.ts';
import type { Redrives, Redriving } from './redrive.ts';
import type { Step, TakeStep } from './stepping.ts';

/** What is kept of the wish. */
export interface RedriveParams extends Redriving {
  filter: LetterFilter;
  limit: number | null;
  canary: number | null;
  rate_per_second: number | null;
}

/** Letters one step looks at, and redrives, at most. */
const most_looked = 1_000;
const most_bite = 200;
/** Counting stops there, and so does the look for a sample. */
const most_counted = 20_000;
/** Up to so many lanes are read lane by lane: each may have to be read as far as all of them together. */
const most_lanes = 20;

const walkOf = { all: walkLetters, of_cause: walkLettersOfCause, of_lanes: walkLettersOfLanes };
const countOf = { all: countLetters, of_cause: countLettersOfCause, of_lanes: countLettersOfLanes };

export function redriveStep({ redrives }: { redrives: Redrives }): TakeStep {
  return async (tx, operation) => {
    const { id, phase, matched } = operation;
    const { filter, limit, canary, rate_per_second, ...wish } = operation.params as RedriveParams;
    const bite = biteOf(rate_per_second, most_bite);
    const { at = null, isOn = false } = operation.cursor as RedriveCursor;
    // The first bite has its time too: so many in so long, from the beginning, or from where it was resumed.
    if (!isOn && rate_per_second !== null)
      return { cursor: { at, isOn: true }, wait_ms: pauseAfter(rate_per_second, bite, 0) };
    const most = phase === 'canary' ? Math.min(canary ?? 0, limit ?? Number.POSITIVE_INFINITY) : limit;
    const want = Math.min(bite, (most ?? Number.POSITIVE_INFINITY) - matched);
    const walked = await walkOn(tx, filter, at, operation.began, want);
    const ids = walked.flatMap(({ job_id }) => job_id ?? []);
    const { counts, after } = await redriveAll(tx, id, ids, wish, redrives);
    const last = walked.at(-1);
    const isEnd = walked.length < want && last?.looked !== most_looked;
    const end = endOf(operation, matched + ids.length, most, isEnd);
    return {
      ...after,
      ...(end ?? { wait_ms: pauseAfter(rate_per_second, ids.length, operation.late_ms) }),
      matched: ids.length,
      counts,
      cursor: { at: last?.key ?? at, isOn: end === null },
    };
  };
}

interface RedriveCursor {
  /** The last letter that was looked at. */
  at?: WalkedLetter['key'] | null;
  isOn?: boolean;
}

/** Whether the operation stops when so many were met; null: it goes on. */
function endOf(
  { phase, params }: HeldOperation,
  met: number,
  most: number | null,
  isEnd: boolean,
): Step | null {
  const { limit } = params as RedriveParams;
  if (isEnd || (limit !== null && met >= limit)) return { state: 'done' };
  if (phase === 'canary' && most !== null && met >= most) return { state: 'paused', pause_reason: 'canary' };
  return null;
}

async function redriveAll(
  tx: Db,
  operation: string,
  ids: readonly string[],
  wish: Redriving,
  redrives: Redrives,
) {
  if (ids.length === 0) return { counts: {}, after: {} };
  const free = (await tx.many(lockLetters, [ids])).map(({ job_id }) => job_id);
  const { redriven, tell } = await redrives.within(tx, free, wish);
  const byJob = new Map(redriven.map((one) => [one.job_id, one]));
  const items = ids.map((job_id) => {
    const one = byJob.get(job_id);
    if (one?.kind === 'made') return { job_id, outcome: 'redriven', next_id: one.id };
    if (one?.kind === 'closed') return { job_id, outcome: 'refused', next_id: null };
    // Another call or operation was faster, or is dealing with it now.
    return { job_id, outcome: 'skipped', next_id: one?.kind === 'repeated' ? one.id : null };
  });
  await tx.many(insertItems, [
    operation,
    items.map((item) => item.job_id),
    items.map((item) => item.outcome),
    items.map((item) => item.next_id),
  ]);
  const counts: Record<string, number> = {};
  for (const { outcome } of items) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return { counts, after: { after: () => void tell() } };
}

/** The next letters that fit: at most `want`, of a bounded number that is looked at. */
export async function walkOn(
  tx: Db,
  filter: LetterFilter,
  from: WalkedLetter['key'] | null,
  until: string,
  want: number,
  looked = most_looked,
): Promise<WalkedLetter[]> {
  const { place, params } = await asked(tx, filter, from, until, looked);
  return tx.many(walkOf[place], [...params, want]);
}

/** How many letters fit now; counts no further than a bound. */
export async function countFitting(tx: Db, filter: LetterFilter): Promise<Extent> {
  const { place, params } = await asked(tx, filter, null, 'infinity', most_counted);
  const { jobs, looked, oldest } = await tx.one(countOf[place], params);
  return { jobs, at_least: looked >= most_counted, oldest: oldest?.toISOString() ?? null };
}

/** Some of the letters that fit now, the oldest first. */
export async function sampleOf(tx: Db, filter: LetterFilter, most: number): Promise<string[]> {
  const walked = await walkOn(tx, filter, null, 'infinity', most, most_counted);
  return walked.flatMap(({ job_id }) => job_id ?? []);
}

/** Where the letters of a question are read, and what is to be said there. */
async function asked(
  tx: Db,
  { queue, type, error_class, source, http_status, fingerprint, tag, died_after, died_before }: LetterFilter,
  from: WalkedLetter['key'] | null,
  until: string,
  looked: number,
): Promise<{ place: LetterPlace; params: unknown[] }> {
  const routes = type === undefined ? null : routesOf(type);
  const lanes =
    queue !== undefined
      ? await tx.many(lanesOfQueue, [tenant, queue, routes])
      : routes === null
        ? null
        : await tx.many(lanesOfType, [tenant, routes]);
  const ids = lanes?.map((lane) => lane.id) ?? null;
  const isFew = ids !== null && ids.length <= most_lanes;
  const place = fingerprint !== undefined ? 'of_cause' : isFew ? 'of_lanes' : 'all';
  const fits = [ids, fingerprint, error_class, source, http_status, tag, died_before];
  // Ids are above 0, so the first of that moment is met too.
  return { place, params: [...(from ?? [died_after ?? '-infinity', '0']), until, looked, ...fits] };
}
