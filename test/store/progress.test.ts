// Reports of a start: kept only while its lease stands and it has not ended, and never over those of a newer start.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Claimed, claimJobs, listHeads } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { noDetails, settleJobs, settleWithin } from '../../src/store/endings.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { findJobs } from '../../src/store/jobs.ts';
import { Lanes, Workers } from '../../src/store/lanes.ts';
import { findCheckpoints, type Report, writeReports } from '../../src/store/progress.ts';
import { sql } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let lanes: Lanes;
let owner: number;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 5);
  lanes = new Lanes(db);
  owner = await new Workers(db).named('tester');
});

after(async () => {
  await db.end();
  await database.drop();
});

async function started(count = 1): Promise<Claimed[]> {
  const lane = (await lanes.named('q', 'work')).id;
  await insertJobs(
    db,
    Array.from({ length: count }, () => aJob(lane)),
  );
  return claimed(count);
}

async function claimed(want: number): Promise<Claimed[]> {
  const heads = await db.many(listHeads);
  const { jobs } = await claimJobs(db, {
    lanes: heads.map((head) => head.lane),
    prios: heads.map((head) => head.prio),
    cursors: heads.map(() => '0'),
    want,
    owners: [owner],
    apart: false,
    lease_seconds: 60,
    blocks: 5,
  });
  return jobs;
}

function release(start: Claimed) {
  return settleJobs(db, [{ ...noDetails, start, status: 'released', delay_ms: 0 }], []);
}

const reportOf = (
  start: Claimed,
  progress: string | null = null,
  checkpoint: string | null = null,
): Report => ({
  start,
  progress,
  checkpoint,
});

const rowOf = sql<{
  epoch: number;
  seq: number;
  progress_seq: number | null;
  checkpoint_seq: number | null;
  progress: string | null;
  checkpoint: string | null;
}>`select epoch, seq, progress_seq, checkpoint_seq, progress, checkpoint from errand.progress where job_id = $1`;

test('reports are kept as they were sent, each with its place among the writes', async () => {
  const [start] = (await started()) as [Claimed];
  assert.deepEqual(await writeReports(db, [reportOf(start, '{"n":1e400}')]), new Set([start.job_id]));
  await writeReports(db, [reportOf(start, null, '[9007199254740993]')]);
  await writeReports(db, [reportOf(start, '"half"', '2')]);
  assert.deepEqual(await db.one(rowOf, [start.job_id]), {
    epoch: 1,
    seq: 4,
    progress_seq: 3,
    checkpoint_seq: 4,
    progress: '"half"',
    checkpoint: '2',
  });
  const [facts] = await db.many(findJobs, [[start.job_id]]);
  assert.deepEqual([facts?.progress, facts?.progress_seq], ['"half"', 3]);
});

test('a start that ended reports nothing any more, though its lease stands for its neighbour', async () => {
  const [first, second] = (await started(2)) as [Claimed, Claimed];
  assert.equal(first.lease, second.lease);
  await settleJobs(db, [{ ...noDetails, start: first, status: 'succeeded' }], []);
  const written = await writeReports(db, [reportOf(first, '1'), reportOf(second, '2')]);
  assert.deepEqual(written, new Set([second.job_id]));
  assert.equal(await db.maybeOne(rowOf, [first.job_id]), undefined);
});

test('an older start never overwrites a newer one, and its checkpoint goes on with the job', async () => {
  const [first] = (await started()) as [Claimed];
  await writeReports(db, [reportOf(first, '"first"', '"there"')]);
  await release(first);
  const [second] = (await claimed(1)) as [Claimed];
  assert.equal(second.epoch, 2);
  assert.deepEqual(await db.many(findCheckpoints, [[second.job_id, '999']]), [
    { job_id: second.job_id, checkpoint: '"there"' },
  ]);
  await writeReports(db, [reportOf(second, '"second"')]);
  assert.deepEqual(await writeReports(db, [reportOf(first, '"late"')]), new Set());
  // Even where its lease seems to stand: the row itself refuses an older epoch.
  assert.deepEqual(await writeReports(db, [reportOf({ ...second, epoch: 0 }, '"older"')]), new Set());
  const { progress, checkpoint, epoch } = await db.one(rowOf, [second.job_id]);
  assert.deepEqual([progress, checkpoint, epoch], ['"second"', '"there"', 2]);
});

test('an ending under way is waited for, and then nothing is written', async () => {
  const [start] = (await started()) as [Claimed];
  const endWritten = Promise.withResolvers<void>();
  const mayCommit = Promise.withResolvers<void>();
  const ending = db.transaction(async (tx) => {
    await settleWithin(tx, [{ ...noDetails, start, status: 'succeeded' }], []);
    endWritten.resolve();
    await mayCommit.promise;
  });
  await endWritten.promise;
  const writing = writeReports(db, [reportOf(start, '1')]);
  const early = await Promise.race([writing, new Promise((resolve) => setTimeout(resolve, 100, 'waits'))]);
  assert.equal(early, 'waits');
  mayCommit.resolve();
  await ending;
  assert.deepEqual(await writing, new Set());
});
