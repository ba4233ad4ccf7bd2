// Takes many jobs in as one: all of them are stored by one statement, or none is. A batch has a statement of its own
// instead of joining the flush of single submits, so neither holds the other up.
// Invariants: as for a single submit, nothing is answered before the commit, and an interrupted commit is said to be
// unknown; a job whose idempotency key is known already is answered with the job that is there.
// Next room: store/inserts.ts, which inserts them.
import type { RequestKey } from '../domain/idempotency.ts';
import { Problem } from '../domain/problem.ts';
import type { Db } from '../store/db.ts';
import { Flush } from '../store/flush.ts';
import { type Flushed, findIdempotent, type Inserted, insertJobs, type NewJob } from '../store/inserts.ts';
import type { Kept, KeptAll } from './kept.ts';
import { retried } from './known.ts';
import { slow_insert_ms } from './ready.ts';
import {
  assertSame,
  inFlight,
  knownJob,
  notUnique,
  placed,
  refuse,
  type Submission,
  type SubmitOptions,
  type Submitted,
  told,
  toldOf,
} from './submit.ts';
import { isKeyed, keepEach } from './unique.ts';

/** Stores all of them or none; answers in their order. Throws what a single submit throws. */
export type SubmitAll = (submissions: readonly Submission[]) => Promise<Submitted[]>;

/** Builds the verb. */
export function submittingAll(options: SubmitOptions): SubmitAll {
  const { db, lanes, ready, keys, guards } = options;
  // Bounds how many batches are stored at once and how many may wait for it.
  const turns = new Flush<NewJob[], Stored>({
    run: async ([jobs = []]) => [await store(jobs)],
    inFlight: 2,
    max: 1,
    gapMs: 0,
    maxWaiting: 100,
  });

  async function store(jobs: NewJob[]): Promise<Stored> {
    const began = performance.now();
    if (jobs.some(isKeyed)) {
      const stored = await retried(() => db.transaction((tx) => keepOrFind(tx, jobs)));
      keys.tell(stored.all, began);
      return stored;
    }
    const hasKeys = jobs.some((job) => job.idempotency !== null);
    // Where a key may turn out to stand for another request, the batch must still be possible to take back.
    const stored = hasKeys
      ? await db.transaction((tx) => insertOrFind(tx, jobs))
      : { flushed: await insertJobs(db, jobs), known: [] };
    const slow = performance.now() - began > slow_insert_ms;
    ready.announce(stored.flushed.heads, slow ? BigInt(stored.flushed.first_block) : null);
    return stored;
  }

  /** One queue that is full refuses all of them, unless they are there already. */
  async function refuseWhatIsTooMuch(submissions: readonly Submission[]): Promise<void> {
    const concerned = submissions.filter(({ queue, priority }) => guards.concerns(queue, priority));
    for (const queue of new Set(concerned.map((one) => one.queue))) {
      const refusal = await guards.refusal(queue);
      if (refusal === null) continue;
      for (const { idempotency } of concerned.filter((one) => one.queue === queue)) {
        const known = idempotency === null ? undefined : await knownJob(db, idempotency);
        if (known === undefined) throw refusal;
      }
    }
  }

  return async (submissions) => {
    const jobs: NewJob[] = [];
    for (const submission of submissions) jobs.push(await placed(submission, lanes));
    await refuseWhatIsTooMuch(submissions);
    const hasKeys = jobs.every((job) => job.idempotency !== null);
    const stored = await turns.add(jobs).catch((error) => refuse(error, hasKeys));
    return submissions.map((submission, i) => {
      const { lane } = jobs[i] as NewJob;
      const known = stored.known[i];
      if (known !== undefined) return told(submission, lane, { known }, options);
      if ('all' in stored) return toldOf(submission, lane, stored.all.kept[i] as Kept, options);
      return told(submission, lane, stored.flushed.inserted[i] as NonNullable<Inserted>, options);
    });
  };
}

/** `known`: by the place of the job, the one its idempotency key names already. */
type Stored = Inserts | Keeps;
interface Inserts {
  flushed: Flushed;
  known: (string | undefined)[];
}
interface Keeps {
  all: KeptAll;
  known: (string | undefined)[];
}

/** As below, where some have a unique key: one that is refused refuses all. */
async function keepOrFind(tx: Db, jobs: NewJob[]): Promise<Keeps> {
  const all = await keepEach(tx, jobs);
  all.kept.forEach((one, i) => {
    if (one?.kind === 'refused') throw notUnique(one, `#/jobs/${i}/unique/key`);
    if (one?.kind === 'known') assertItem(one.print, jobs[i]?.idempotency as RequestKey, i);
  });
  const known = await findMissing(tx, jobs, (i) => all.kept[i] === undefined);
  return { all, known };
}

async function insertOrFind(tx: Db, jobs: NewJob[]): Promise<Inserts> {
  const flushed = await insertJobs(tx, jobs);
  return { flushed, known: await findMissing(tx, jobs, (i) => flushed.inserted[i] === null) };
}

/** The jobs that idempotency keys name already, by the place of those that were not stored for them. */
async function findMissing(
  tx: Db,
  jobs: readonly NewJob[],
  isMissing: (i: number) => boolean,
): Promise<(string | undefined)[]> {
  const missing = jobs.flatMap((job, i) =>
    isMissing(i) && job.idempotency !== null ? [{ i, ...job.idempotency }] : [],
  );
  if (missing.length === 0) return [];
  const rows = await tx.many(findIdempotent, [
    missing.map((one) => one.tenant),
    missing.map((one) => one.route),
    missing.map((one) => one.key),
  ]);
  const found = new Map(rows.map((row) => [row.n, row]));
  const known: (string | undefined)[] = [];
  missing.forEach((one, n) => {
    const row = found.get(n + 1);
    if (row === undefined) throw inFlight();
    assertItem(row.print, one, one.i);
    known[one.i] = row.job_id;
  });
  return known;
}

function assertItem(print: Buffer, key: RequestKey, i: number): void {
  try {
    assertSame(print, key);
  } catch (error) {
    throw error instanceof Problem && !key.of_call ? pointingAt(i, error) : error;
  }
}

function pointingAt(i: number, problem: Problem): Problem {
  const fault = { pointer: `#/jobs/${i}/idempotency_key`, code: problem.slug, detail: problem.detail };
  return new Problem(problem.slug, { detail: problem.detail, errors: [fault] });
}
