// A change is made to the job its caller has looked at, and to no later state of it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { changeJob } from '../../src/store/changes.ts';
import { type Claimed, claimJobs } from '../../src/store/claims.ts';
import { openPool, type Pool } from '../../src/store/db.ts';
import { noDetails, settleJobs } from '../../src/store/endings.ts';
import { insertJobs } from '../../src/store/jobs.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;

before(async () => {
  database = await cloneDatabase();
  db = openPool({
    url: database.url,
    name: 'test',
    max: 2,
    fixedPlans: true,
    statementTimeoutMs: 20_000,
    onError: () => {},
  });
});

after(async () => {
  await db.end();
  await database.drop();
});

const urgent = {
  lane: null,
  priority: 0,
  run_at: null,
  due_now: false,
  max_attempts: null,
  tags: null,
  callback_lane: null,
};

for (const delay_ms of [0, 60_000]) {
  test(`a job that has started and come back meanwhile is another one (${delay_ms} ms)`, async () => {
    const lane = (await new Lanes(db).named('default', `back-${delay_ms}`)).id;
    const { inserted } = await insertJobs(db, [aJob(lane), aJob(lane)]);
    const id = inserted[0]?.id as string;
    const ask = { want: 2, owners: [1], apart: false, lease_seconds: 60, blocks: 5 };
    const { jobs } = await claimJobs(db, { lanes: [lane], prios: [5], cursors: ['0'], ...ask });
    const back = { ...noDetails, status: 'released', delay_ms } as const;
    await settleJobs(
      db,
      jobs.map((start: Claimed) => ({ ...back, start })),
      [],
    );
    assert.equal(await changeJob(db, id, { epoch: 0, patches: 0 }, urgent), undefined);
    assert.equal((await changeJob(db, id, { epoch: 1, patches: 0 }, urgent))?.prio, 0);
    assert.equal(await changeJob(db, id, { epoch: 1, patches: 0 }, urgent), undefined);
  });
}
