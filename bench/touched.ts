// What the verbs of the store touch: a hundred jobs go through them once, in the order in which a job meets them, by the
// plans that the pools keep.
// Invariant: a first hundred has read the catalog and made the plans, so what is counted is tables and indexes.
// Next room: figures/history.ts, which compares a store of ten million finished jobs with a small one.
import { claimJobs, heartbeat, promoteDue } from '../src/store/claims.ts';
import { openPool, type Pool } from '../src/store/db.ts';
import { noDetails, settleJobs } from '../src/store/endings.ts';
import { insertJobs } from '../src/store/inserts.ts';
import { findEnded, findJobs } from '../src/store/jobs.ts';
import { sessionSettings } from '../src/store/session.ts';
import { numbers } from '../src/store/sql.ts';
import type { Ground } from './ground.ts';
import { noop } from './inside.ts';
import { read } from './meter.ts';

const jobs = 100;

export const verbs = ['insert', 'claim', 'heartbeat', 'read', 'settle', 'ended', 'promote'] as const;
export type Verb = (typeof verbs)[number];

/** Buffers that each verb touches for 100 jobs of the lane, which are finished afterwards. */
export async function touched(ground: Ground, url: string, lane: number): Promise<Record<Verb, number>> {
  const db = openPool({
    name: 'bench',
    max: 1,
    way: { url, pooled: false, settings: sessionSettings(60_000) },
    onError: (error) => {
      throw error;
    },
  });
  try {
    await walk(ground, url, db, lane);
    return await walk(ground, url, db, lane);
  } finally {
    await db.end();
  }
}

async function walk(ground: Ground, url: string, db: Pool, lane: number): Promise<Record<Verb, number>> {
  const found: Partial<Record<Verb, number>> = {};
  // Not EXPLAIN: it leaves out the parts of a statement that run after its answer, and these are the inserts.
  const count = async <T>(verb: Verb, work: () => Promise<T>): Promise<T> => {
    const before = await read(ground, url);
    const answer = await work();
    found[verb] = (await read(ground, url)).buffers - before.buffers;
    return answer;
  };
  const { queue: _queue, type: _type, ...job } = noop();
  await count('insert', () =>
    insertJobs(
      db,
      Array.from({ length: jobs }, () => ({ ...job, lane, options: null })),
    ),
  );
  const { jobs: taken } = await count('claim', () =>
    claimJobs(db, {
      ...{ lanes: [lane], prios: [5], cursors: ['0'], owners: [0], apart: false },
      ...{ want: jobs, lease_seconds: 30, blocks: 2 },
    }),
  );
  if (taken.length !== jobs) throw new Error(`a claim took ${taken.length} of ${jobs} jobs; no figure`);
  const ids = numbers(taken.map((start) => start.job_id));
  const leases = [...new Set(taken.map((start) => start.lease))];
  const epochs = numbers(taken.map((start) => start.epoch));
  await count('heartbeat', () =>
    db.many(heartbeat, [numbers(leases), numbers(leases.map(() => 30)), ids, epochs]),
  );
  await count('read', () => db.many(findJobs, [ids]));
  await count('settle', () =>
    settleJobs(
      db,
      taken.map((start) => ({ ...noDetails, start, status: 'succeeded' as const })),
      leases,
    ),
  );
  const ended = await count('ended', () => db.many(findEnded, [ids]));
  if (ended.length !== jobs) throw new Error(`${ended.length} of ${jobs} jobs ended; no figure`);
  await count('promote', () => db.many(promoteDue, [500, 5]));
  return found as Record<Verb, number>;
}
