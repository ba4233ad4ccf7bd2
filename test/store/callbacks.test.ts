// The news of an end is made with the end: one callback job for each job that asked for it, whoever ends it and however
// often; and what a claim gives out apart goes its own way.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { callbackType, pushRoute } from '../../src/domain/options.ts';
import { insertCallbacks, settleAndTell } from '../../src/store/callbacks.ts';
import { type Claimed, claimJobs } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { type Ending, noDetails } from '../../src/store/endings.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { findJobs, findPayload, takeOut } from '../../src/store/jobs.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let lanes: Lanes;
let pushLane: number;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 4);
  lanes = new Lanes(db);
  pushLane = (await lanes.named('default', pushRoute(callbackType))).id;
});

after(async () => {
  await db.end();
  await database.drop();
});

function callbackFor(...events: ('succeeded' | 'dead' | 'cancelled')[]) {
  return { callback: { url: 'http://127.0.0.1:9/done', events, lane: pushLane } };
}

async function claimOf(lane: number, want: number, owners: number[], apart: boolean): Promise<Claimed[]> {
  const ask = { want, owners, apart, lease_seconds: 60, blocks: 5 };
  return (await claimJobs(db, { lanes: [lane], prios: [5], cursors: ['0'], ...ask })).jobs;
}

function success(start: Claimed): Ending {
  return { ...noDetails, start, status: 'succeeded', result: '{"sum":3}' };
}

const tell = (endings: Ending[]) => db.transaction((tx) => settleAndTell(tx, endings, []));

test('an end that was asked for makes one callback job, with the news as its payload', async () => {
  const lane = (await lanes.named('default', 'asked')).id;
  const { inserted } = await insertJobs(db, [
    aJob(lane, {
      options: { ...callbackFor('succeeded', 'dead'), traceparent: '00-aa-bb-01' },
      tags: ['eu'],
    }),
  ]);
  const id = inserted[0]?.id as string;
  const [start] = (await claimOf(lane, 1, [1], false)) as [Claimed];
  assert.equal(start.callback, true);
  const { told } = await tell([success(start)]);
  assert.equal(told.length, 1);
  assert.equal(told[0]?.lane, pushLane);
  const made = told[0]?.id as string;
  const [facts] = await db.many(findJobs, [[made]]);
  assert.equal(facts?.state, 'queued');
  assert.deepEqual(facts?.options, {
    type: 'errand.callback',
    target: { url: 'http://127.0.0.1:9/done', method: 'POST' },
    callback_of: id,
    traceparent: '00-aa-bb-01',
  });
  const { payload } = await db.one(findPayload, [made]);
  const news = JSON.parse(payload);
  assert.equal(news.type, 'job.succeeded');
  assert.equal(news.data.id, id);
  assert.equal(news.data.type, 'asked');
  assert.equal(news.data.result, `/v1/jobs/${id}/result`);
  assert.deepEqual(news.data.tags, ['eu']);
  const [ended] = await db.many(findJobs, [[id]]);
  const { created_at, started_at, finished_at } = news.data;
  assert.deepEqual(
    [news.timestamp, created_at, started_at, finished_at],
    [ended?.finished_at, ended?.created_at, ended?.started_at, ended?.finished_at].map((at) =>
      at?.toISOString(),
    ),
    'times are told as the record tells them',
  );
  assert.deepEqual((await tell([success(start)])).told, [], 'an ending that was refused tells nobody');
  assert.deepEqual(await db.many(insertCallbacks, [[id]]), [], 'and one that was told is not told again');
});

test('an end that was not asked for makes none', async () => {
  const lane = (await lanes.named('default', 'unasked')).id;
  await insertJobs(db, [aJob(lane, { options: callbackFor('dead') }), aJob(lane)]);
  const starts = await claimOf(lane, 2, [1], false);
  assert.deepEqual(
    starts.map((start) => start.callback),
    [true, false],
  );
  const { settled, told } = await tell(starts.map(success));
  assert.equal(settled.length, 2);
  assert.deepEqual(told, []);
});

test('a job with a callback is taken out only where the caller can tell of it', async () => {
  const lane = (await lanes.named('default', 'taken')).id;
  const { inserted } = await insertJobs(db, [
    aJob(lane, { options: callbackFor('cancelled') }),
    aJob(lane, { options: callbackFor('cancelled'), delay_ms: 60_000 }),
  ]);
  for (const job of inserted) {
    const without = await db.one(takeOut, [job?.id, 'cancelled', 1, null, false]);
    assert.deepEqual([without.taken, without.callback], [0, true]);
    const withIt = await db.one(takeOut, [job?.id, 'cancelled', 1, null, true]);
    assert.deepEqual([withIt.taken, withIt.callback], [1, true]);
    assert.equal((await db.many(insertCallbacks, [[job?.id]])).length, 1);
  }
});

test('jobs claimed apart have a lease and an owner each, jobs claimed together share one', async () => {
  const lane = (await lanes.named('default', 'apart')).id;
  await insertJobs(
    db,
    Array.from({ length: 7 }, () => aJob(lane)),
  );
  const apart = await claimOf(lane, 3, [11, 12, 13], true);
  assert.deepEqual(apart.map((job) => job.owner).sort(), [11, 12, 13]);
  assert.equal(new Set(apart.map((job) => job.lease)).size, 3);
  const together = await claimOf(lane, 3, [14], false);
  assert.deepEqual(new Set(together.map((job) => job.owner)), new Set([14]));
  assert.equal(new Set(together.map((job) => job.lease)).size, 1);
  const [last] = await claimOf(lane, 5, [15], true);
  assert.equal(new Set([...apart, ...together, last].map((job) => job?.job_id)).size, 7);
});
