// Reads jobs: concurrent reads become one statement, so a crowd that polls costs the database a few queries.
// Invariant: what is told of a job is one consistent look at it.
// Next room: store/jobs.ts `findJobs`; domain/record.ts writes what is shown.
import type { NamedFacts } from '../domain/record.ts';
import type { Pool } from '../store/db.ts';
import { Flush } from '../store/flush.ts';
import { findAwaited, findJobs, findPayload, findResult, type JobFacts } from '../store/jobs.ts';
import type { Lanes, Workers } from '../store/lanes.ts';
import { holder_patience_ms } from '../store/line.ts';
import { lowestKept } from '../store/partitions.ts';
import type { Statement } from '../store/sql.ts';

export interface Inspect {
  /** The facts of a job, or undefined when there is none. */
  job(id: string): Promise<NamedFacts | undefined>;
  /** The facts of a job that a caller has waited for, with its result where it has one. */
  awaited(id: string): Promise<AwaitedJob | undefined>;
  /** Whether a job of this id has existed and is no longer kept. */
  isGone(id: string): Promise<boolean>;
  /** The result as it was sent, and what it created; undefined unless the job succeeded. */
  result(id: string): Promise<{ result: string | null; created_uri: string | null } | undefined>;
  payload(id: string): Promise<string | undefined>;
}

export type AwaitedJob = NamedFacts & { result: string | null };

/** Gives facts the names of their lane and worker. */
export function naming(lanes: Lanes, workers: Workers) {
  return async <Facts extends JobFacts>(facts: Facts): Promise<Facts & NamedFacts> => {
    const lane = lanes.peek(facts.lane) ?? (await lanes.get(facts.lane));
    const type = facts.options?.type ?? lane.route;
    return { ...facts, queue: lane.queue, type, worker: await workers.nameOf(facts.worker) };
  };
}

export function inspecting(db: Pool, named: ReturnType<typeof naming>): Inspect {
  // The running read is the gap, as for submits; the second is for when one is stuck.
  const gathered = {
    inFlight: 2,
    overtakeMs: 20,
    gapMs: 0,
    maxWaiting: 5_000,
    patienceMs: holder_patience_ms,
  };
  const reads = new Flush({ ...gathered, run: (ids: string[]) => byIdOf(ids, db, findJobs), max: 200 });
  // Results may be large, so fewer of them come together.
  const endings = new Flush({ ...gathered, run: (ids: string[]) => byIdOf(ids, db, findAwaited), max: 20 });
  return {
    async job(id) {
      const facts = await reads.add(id);
      return facts === undefined ? undefined : named(facts);
    },
    async awaited(id) {
      const facts = await endings.add(id);
      return facts === undefined ? undefined : named(facts);
    },
    // Ids only grow and a partition is dropped whole: what lies below the first one that is left is gone.
    isGone: async (id) => BigInt(id) < BigInt((await db.one(lowestKept)).edge),
    result: (id) => db.maybeOne(findResult, [id]),
    payload: async (id) => (await db.maybeOne(findPayload, [id]))?.payload,
  };
}

/** The rows of these jobs, in their order. */
async function byIdOf<Row extends { id: string }>(
  ids: readonly string[],
  db: Pool,
  statement: Statement<Row>,
): Promise<(Row | undefined)[]> {
  const rows = await db.many(statement, [[...new Set(ids)]]);
  const byId = new Map(rows.map((row) => [row.id, row]));
  return ids.map((id) => byId.get(id));
}
