// What is inserted is what was given, whichever of the three statements takes it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Pool } from '../../src/store/db.ts';
import { insertJobs, type NewJob } from '../../src/store/inserts.ts';
import { findJobs, findPayload } from '../../src/store/jobs.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let lane: number;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 2);
  lane = (await new Lanes(db).named('inserted', 'work')).id;
});

after(async () => {
  await db.end();
  await database.drop();
});

const awkward = ['""', '"a\\\\b"', '"\\u0001"', '{"a,b":"{}"}', '[ 1 ,\n\t"é€𝄞"\r\n]', 'NULL', '\\N', ' '];

async function storedOf(jobs: NewJob[]): Promise<string[]> {
  const { inserted } = await insertJobs(db, jobs);
  const ids = inserted.map((one) => (one as { id: string }).id);
  assert.deepEqual(new Set(ids).size, jobs.length);
  return Promise.all(ids.map(async (id) => (await db.one(findPayload, [id])).payload));
}

test('payloads of plain jobs are kept byte for byte, each by its own job', async () => {
  const payloads = [...awkward, ...awkward];
  assert.deepEqual(await storedOf(payloads.map((payload) => aJob(lane, { payload }))), payloads);
});

test('jobs that differ in more than their payload are kept as they were, each by its own id', async () => {
  const jobs = awkward.map((payload, i) =>
    aJob(lane, { payload, priority: i % 3, max_attempts: 1 + (i % 2), timeout_seconds: i === 5 ? 7 : 60 }),
  );
  const { inserted, heads } = await insertJobs(db, jobs);
  assert.deepEqual(heads.map(({ prio }) => prio).toSorted(), [0, 1, 2, 2]);
  for (const [i, job] of jobs.entries()) {
    const [facts] = await db.many(findJobs, [[inserted[i]?.id]]);
    assert.deepEqual(
      [facts?.priority, facts?.max_attempts, facts?.timeout_seconds],
      [job.priority, job.max_attempts, job.timeout_seconds],
    );
    assert.deepEqual((await db.one(findPayload, [inserted[i]?.id])).payload, job.payload);
  }
});

test('a payload that holds the separator of the plain statement is one payload', async () => {
  const payloads = ['1', '"a\u0001b"', '\u0001', '2'];
  assert.deepEqual(await storedOf(payloads.map((payload) => aJob(lane, { payload }))), payloads);
});

test('payloads of jobs with options are kept byte for byte', async () => {
  const payloads = [...awkward, 'a\u0001b'];
  const jobs = payloads.map((payload, i) => aJob(lane, { payload, tags: i % 2 === 0 ? ['odd'] : null }));
  assert.deepEqual(await storedOf(jobs), payloads);
});
