// Redrives many dead letters as an operation: the first few as a canary, at a speed that can be limited.
// Invariants: letters of before it began, each once; no more of them in a time than its limit says.
// Next room: redrive.ts, which makes the jobs; store/letters.ts, the walk.
import type { LetterFilter } from '../domain/dead-letter.ts';
import { biteOf, type Extent, pauseAfter } from '../domain/operation.ts';
import { routesOf } from '../domain/options.ts';
import type { Db } from '../store/db.ts';
import { countLetters, lockLetters, type WalkedLetter, walkLetters } from '../store/letters.ts';
import { lanesOfQueue, lanesOfType } from '../store/lists.ts';
import { type HeldOperation, insertItems } from '../store/operations.ts';
import type { Redrives, Redriving } from './redrive.ts';
import { tenant } from './schedules.ts';
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
/** Counting stops there. */
const most_counted = 20_000;

export function redriveStep({ redrives }: { redrives: Redrives }): TakeStep {
  return async (tx, operation) => {
    const { id, phase, matched } = operation;
    const { filter, limit, canary, rate_per_second, ...wish } = operation.params as RedriveParams;
    const bite = biteOf(rate_per_second, most_bite);
    const { at = atFirst, isOn = false } = operation.cursor as { at?: WalkedLetter['key']; isOn?: boolean };
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

const atFirst: WalkedLetter['key'] = ['-infinity', '0'];

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
    // Another call or operation was faster, or is dealing with it now.
    return { job_id, outcome: 'skipped', next_id: one?.kind === 'repeated' ? one.id : null };
  });
  await tx.many(insertItems, [
    operation,
    items.map((item) => item.job_id),
    items.map((item) => item.outcome),
    items.map((item) => item.next_id),
  ]);
  const made = items.filter(({ outcome }) => outcome === 'redriven').length;
  return { counts: { redriven: made, skipped: items.length - made }, after: { after: () => void tell() } };
}

/** The next letters that fit: at most `want`, of a bounded number that is looked at. */
export async function walkOn(
  tx: Db,
  filter: LetterFilter,
  from: WalkedLetter['key'],
  until: string,
  want: number,
): Promise<WalkedLetter[]> {
  return tx.many(walkLetters, [...(await paramsOf(tx, filter, from, until)), most_looked, want]);
}

/** How many letters fit now; counts no further than a bound. */
export async function countFitting(tx: Db, filter: LetterFilter): Promise<Extent> {
  const params = await paramsOf(tx, filter, atFirst, 'infinity');
  const { jobs, looked, oldest } = await tx.one(countLetters, [...params, most_counted]);
  return { jobs, at_least: looked >= most_counted, oldest: oldest?.toISOString() ?? null };
}

/** Some of the letters that fit now, the oldest first. */
export async function sampleOf(tx: Db, filter: LetterFilter, most: number): Promise<string[]> {
  const walked = await walkOn(tx, filter, atFirst, 'infinity', most);
  return walked.flatMap(({ job_id }) => job_id ?? []);
}

async function paramsOf(
  tx: Db,
  { queue, type, error_class, source, http_status, fingerprint, tag, died_after, died_before }: LetterFilter,
  from: WalkedLetter['key'],
  until: string,
): Promise<unknown[]> {
  const routes = type === undefined ? null : routesOf(type);
  const lanes =
    queue !== undefined
      ? await tx.many(lanesOfQueue, [tenant, queue, routes])
      : routes === null
        ? null
        : await tx.many(lanesOfType, [tenant, routes]);
  const ids = lanes?.map((lane) => lane.id) ?? null;
  const asked = [ids, error_class, fingerprint, tag, died_before, source, http_status];
  return [...from, died_after ?? '-infinity', until, ...asked];
}
