// What a claim reads: the heads it asks for and nothing else, however much of other types stands in front.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { claim } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { Lanes, Workers } from '../../src/store/lanes.ts';
import type { Statement } from '../../src/store/sql.ts';
import { aJob, crowdOf } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 2);
});

after(async () => {
  await db.end();
  await database.drop();
});

interface Plan {
  'Shared Hit Blocks': number;
  'Shared Read Blocks': number;
}

const explained: Statement<{ 'QUERY PLAN': [{ Plan: Plan }] }> = {
  text: `explain (analyze, buffers, format json) ${claim.text}`,
};

const undo = new Error('undo');

/** The buffers a claim of one job from this lane touches; the claim itself is undone. */
async function buffersOf(lane: number, owner: number): Promise<number> {
  let touched = 0;
  const claiming = db.transaction(async (tx) => {
    const row = await tx.one(explained, [[lane], [5], ['0'], 1, [owner], 30, 2, false]);
    const plan = row['QUERY PLAN'][0].Plan;
    touched = plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
    throw undo;
  });
  await assert.rejects(claiming, undo);
  return touched;
}

test('10,000 jobs of a type nobody serves cost a claim of another type nothing', async (t) => {
  const lanes = new Lanes(db);
  const owner = await new Workers(db).named('tester');
  const unserved = await lanes.named('mixed', 'unserved');
  const served = await lanes.named('mixed', 'served');
  await insertJobs(db, [aJob(served.id)]);
  await buffersOf(served.id, owner);
  const alone = await buffersOf(served.id, owner);
  await db.many(crowdOf, [unserved.id, 10_000]);
  await buffersOf(served.id, owner);
  const behind = await buffersOf(served.id, owner);
  t.diagnostic(`buffers: ${alone} alone, ${behind} behind 10,000 blocks`);
  assert.ok(alone > 10, 'the claim was measured');
  assert.ok(behind <= alone + 20, `${behind} buffers instead of ${alone}`);
});
