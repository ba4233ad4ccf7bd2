// Requests with an Idempotency-Key among jobs that have a unique key: what was asked for before is answered as it was then,
// whoever holds the unique key now.
// Invariants: a request finds the same job for ever, also where the holder of its unique key was the answer; two requests with
// one key never both take effect.
// Next room: unique.ts, which stores what is new.
import type { RequestKey } from '../domain/idempotency.ts';
import { Problem } from '../domain/problem.ts';
import type { Db } from '../store/db.ts';
import { findIdempotent, type NewJob } from '../store/inserts.ts';
import { nameJobs } from '../store/unique.ts';
import { idOf, type Kept, type KeptAll } from './kept.ts';

export interface Waiting {
  job: NewJob;
  /** Its place among the jobs of the call. */
  i: number;
}

/** One call may hold the same request twice: the second is answered as a repeat of the first. */
export function apart(jobs: readonly Waiting[]): {
  firsts: Waiting[];
  repeats: { i: number; first: Waiting }[];
} {
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

/** The answer to the second, given that of the first. */
export function repeated({ job }: Waiting, kept: Kept): Kept {
  if (kept.kind === 'refused' || kept.kind === 'known') return kept;
  return { kind: 'known', id: idOf(kept), print: (job.idempotency as RequestKey).print };
}

/** Requests that were made before are answered with their job, whoever holds the key now. */
export async function answerKnown(tx: Db, jobs: readonly Waiting[], kept: KeptAll['kept']): Promise<void> {
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

/** A repeat of this request is to find this job, also when that has let go of its key. */
export async function nameHolder(
  tx: Db,
  { tenant: of, route, key, print }: RequestKey,
  id: string,
): Promise<void> {
  const named = await tx.many(nameJobs, [[of], [route], [key], [id], [print.toString('hex')]]);
  if (named.length === 0) throw new Overtaken();
}

/** Another request with the same idempotency key was stored meanwhile: what this transaction did must not be. */
export class Overtaken extends Error {}

const tries = 20;

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
