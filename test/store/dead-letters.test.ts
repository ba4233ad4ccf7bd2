// A letter is written with the death it tells of, and by nothing else.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Claimed, claimJobs } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { type Ending, noDetails, settleJobs } from '../../src/store/endings.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 3);
});

after(async () => {
  await db.end();
  await database.drop();
});

const failure = {
  class: 'permanent',
  source: 'handler',
  error: 'no',
  fingerprint: '00000000000000aa',
} as const;

/** Starts as many jobs of a type as there are ends, and ends them so. */
async function ended(type: string, ends: readonly Partial<Ending>[]): Promise<string[]> {
  const lane = (await new Lanes(db).named('default', type)).id;
  await insertJobs(
    db,
    ends.map(() => aJob(lane)),
  );
  const ask = { want: ends.length, owners: [1], apart: false, lease_seconds: 60, blocks: 5 };
  const { jobs } = await claimJobs(db, { lanes: [lane], prios: [5], cursors: ['0'], ...ask });
  await settleJobs(
    db,
    jobs.map((start: Claimed, i) => ({ ...noDetails, start, status: 'succeeded', ...ends[i] })),
    [],
  );
  return jobs.map((job) => job.job_id);
}

const letters = sql<{ job_id: string; agrees: boolean }>`
select d.job_id, (d.died_at, d.lane, d.class, d.source, d.http_status, d.fingerprint)
  is not distinct from (o.finished_at, o.lane, o.class, o.source, o.http_status, o.fingerprint) agrees
from errand.dead_letter d join errand.outcome o on o.job_id = d.job_id and o.status = 'dead'
where d.job_id = any($1::bigint[])`;

test('a job that dies has a letter that says what its outcome says; no other end has one', async () => {
  const ids = await ended('dies', [
    { status: 'dead', ...failure },
    { status: 'dead', ...failure, source: 'target', http_status: 404 },
    { status: 'retry', ...failure, delay_ms: 60_000 },
    { status: 'cancelled', source: 'errand' },
    { result: '1' },
  ]);
  const written = await db.many(letters, [ids]);
  assert.deepEqual(
    written.sort((a, b) => (BigInt(a.job_id) < BigInt(b.job_id) ? -1 : 1)),
    ids.slice(0, 2).map((job_id) => ({ job_id, agrees: true })),
  );
});
