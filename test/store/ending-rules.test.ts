// What each part of the two settle statements guards, one test for each: a change that breaks one is told by name. The race
// of all who end starts is in engine.test.ts; claim-rules.test.ts is the same for the claim.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { takeApart } from '../../src/store/apart.ts';
import { type Claimed, claimJobs, promoteDue } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { type Ending, noDetails, settleJobs, settleWithin } from '../../src/store/endings.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { numbers, sql } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;
let db: Pool;
let lanes: Lanes;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 3);
  lanes = new Lanes(db);
});

after(async () => {
  await db.end();
  await database.drop();
});

const again = sql<never>`update errand.block set epoch = 4, attempt = 3 where lane = $1`;
const suspected = sql<never>`update errand.block set prio = 15 where lane = $1`;
const blocks = sql<{ prio: number; ids: string[] }>`
select prio, ids from errand.block where lane = $1 order by ids[1]`;
const outcomes = sql<{ job_id: string; epoch: number; attempt: number; status: string }>`
select job_id, epoch, attempt, status from errand.outcome where lane = $1 order by job_id, epoch`;
const lock = sql<{ id: string }>`select id from errand.lease where id = $1 for update`;
const gone = sql<never>`delete from errand.lease where id = $1`;
const waiters = sql<{ count: number }>`
select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;

/** Jobs of one lease in a lane of their own, at epoch 4 of attempt 3; suspects if `prio` says so. */
async function leased(name: string, count: number, prio = 5): Promise<{ lane: number; jobs: Claimed[] }> {
  const lane = (await lanes.named('rules', name)).id;
  await insertJobs(
    db,
    Array.from({ length: count }, () => aJob(lane)),
  );
  await db.many(again, [lane]);
  if (prio === 15) await db.many(suspected, [lane]);
  const { jobs } = await claimJobs(db, {
    ...{ lanes: [lane], prios: [prio], cursors: ['0'], want: count, owners: [1] },
    ...{ apart: false, lease_seconds: 30, blocks: 1 },
  });
  assert.equal(jobs.length, count);
  return { lane, jobs };
}

const ended = (start: Claimed, status: Ending['status'], delay_ms: number | null = null): Ending => ({
  ...noDetails,
  ...{ start, status, delay_ms },
});

test('a success is recorded under the epoch and the attempt of its start', async () => {
  const { lane, jobs } = await leased('epoch', 1);
  const [job] = jobs as [Claimed];
  const [answer] = await settleJobs(db, [ended(job, 'succeeded')], [job.lease]);
  assert.equal(answer?.epoch, 4);
  assert.deepEqual(await db.many(outcomes, [lane]), [
    { job_id: job.job_id, epoch: 4, attempt: 3, status: 'succeeded' },
  ]);
});

test('a success waits for whoever holds its lease, also where the lease stays', async () => {
  const { jobs } = await leased('lock', 2);
  const [first] = jobs as [Claimed];
  let settling: Promise<unknown> | undefined;
  let isSettled = false;
  await db.transaction(async (holder) => {
    await holder.many(lock, [first.lease]);
    settling = settleJobs(db, [ended(first, 'succeeded')], []).then(() => {
      isSettled = true;
    });
    await until(async () => isSettled || (await db.one(waiters)).count > 0);
    assert.equal(isSettled, false);
  });
  await settling;
});

for (const status of ['succeeded', 'dead'] as const) {
  test(`an ending (${status}) whose lease is gone changes nothing, though no other has come`, async () => {
    const { lane, jobs } = await leased(`gone.${status}`, 1);
    const [job] = jobs as [Claimed];
    await db.many(gone, [job.lease]);
    assert.deepEqual(await settleJobs(db, [ended(job, status)], []), [null]);
    assert.deepEqual(await settleWithin(db, [ended(job, status)], []), []);
    assert.deepEqual(await db.many(outcomes, [lane]), []);
  });
}

for (const status of ['succeeded', 'dead', 'released'] as const) {
  test(`an ending (${status}) under the row its job was taken out of leaves the row to the one who stayed`, async () => {
    const { lane, jobs } = await leased(`apart.${status}`, 2);
    const [stays, leaves] = jobs as [Claimed, Claimed];
    await db.many(takeApart, [numbers([leaves.job_id]), numbers([leaves.epoch])]);
    await settleJobs(db, [ended(leaves, status, status === 'released' ? 1_000 : null)], []);
    assert.equal((await settleJobs(db, [ended(stays, 'succeeded')], []))[0]?.status, 'succeeded');
    assert.deepEqual(
      (await db.many(outcomes, [lane])).map((row) => [row.job_id, row.status]).sort(),
      [
        [stays.job_id, 'succeeded'],
        [leaves.job_id, status],
      ].sort(),
    );
    assert.deepEqual(await db.many(lock, [stays.lease]), []);
  });
}

test('jobs that were lost together stand apart from each other', async () => {
  const { lane, jobs } = await leased('lost', 3);
  await settleWithin(
    db,
    jobs.map((job) => ended(job, 'lost', 0)),
    [],
  );
  assert.deepEqual(
    await db.many(blocks, [lane]),
    jobs.map(({ job_id }) => ({ prio: 15, ids: [job_id] })),
  );
});

test('suspects that were put off come back apart from each other', async () => {
  const { lane, jobs } = await leased('promoted', 3, 15);
  await settleWithin(
    db,
    jobs.map((job) => ended(job, 'released', 1)),
    [],
  );
  await until(async () => {
    await db.many(promoteDue, [100, 3_600]);
    return (await db.many(blocks, [lane])).length > 0;
  });
  assert.deepEqual(
    (await db.many(blocks, [lane])).map(({ ids }) => ids.length),
    [1, 1, 1],
  );
});
