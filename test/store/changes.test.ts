// A change is made to the job its caller has looked at, and to no later state of it; and it hides no job from a cancel.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cancelling } from '../../src/actions/cancel.ts';
import { Ready } from '../../src/actions/ready.ts';
import { Heads } from '../../src/domain/heads.ts';
import { EventBus } from '../../src/events.ts';
import { changeJob } from '../../src/store/changes.ts';
import { type Claimed, claimJobs } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { noDetails, settleJobs } from '../../src/store/endings.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { takeOut } from '../../src/store/jobs.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

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

const unchanged = {
  lane: null,
  priority: null,
  run_at: null,
  due_now: false,
  max_attempts: null,
  tags: null,
  callback_lane: null,
};
const urgent = { ...unchanged, priority: 0 };

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

const waitingForLocks = sql<{ n: number }>`
select count(*)::int n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;

test('a job whose time is changed under each look is taken back all the same', async () => {
  const lanes = new Lanes(db);
  const lane = (await lanes.named('default', 'restless')).id;
  const { inserted } = await insertJobs(db, [aJob(lane, { delay_ms: 60_000 })]);
  const id = inserted[0]?.id as string;
  let changes = 0;
  const restless: Pool = {
    ...db,
    async one(statement, params) {
      if (statement !== takeOut || changes === 2) return db.one(statement, params);
      const answer = db.transaction(async (tx) => {
        const later = { ...unchanged, run_at: `2099-01-0${changes + 1}T00:00:00Z` };
        await changeJob(tx, id, { epoch: 0, patches: changes }, later);
        changes++;
        const taken = db.one(statement, params);
        await until(async () => (await db.one(waitingForLocks)).n > 0, { everyMs: 5 });
        return { taken };
      });
      return (await answer).taken;
    },
  };
  const events = new EventBus();
  const quiet = { onEnded: () => {}, onRequested: () => {} };
  const onError = (error: unknown) => assert.fail(String(error));
  const ready = new Ready({ heads: new Heads(), notify: async () => {}, meet: () => undefined, onError });
  const { cancelUnstarted } = cancelling({ db: restless, lanes, events, ready, ...quiet });
  assert.deepEqual(await cancelUnstarted(id), { kind: 'taken' });
  assert.equal(changes, 2);
});
