// A crowd that polls: however many ask for the status or the record of jobs at once, the database is asked a few times.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Inspect, inspecting, naming } from '../../src/actions/inspect.ts';
import type { Pool } from '../../src/store/db.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { findJobs } from '../../src/store/jobs.ts';
import { Lanes, Workers } from '../../src/store/lanes.ts';
import { FakeJobs } from '../support/fake-actions.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';
import { send, serve } from '../support/serve.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;
let db: Pool;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 4);
});

after(async () => {
  await db.end();
  await database.drop();
});

test('100 callers who read jobs at once cost three statements', async () => {
  const lanes = new Lanes(db);
  const lane = await lanes.named('polled', 'work');
  const { inserted } = await insertJobs(
    db,
    Array.from({ length: 25 }, () => aJob(lane.id)),
  );
  const gate = Promise.withResolvers<void>();
  let statements = 0;
  const held: Pool = {
    ...db,
    async many(statement, params) {
      if (statement.name === findJobs.name) statements++;
      await gate.promise;
      return db.many(statement, params);
    },
  };
  const reads = inspecting(held, naming(lanes, new Workers(db)));
  let asked = 0;
  const inspect: Inspect = {
    ...reads,
    job(id) {
      asked++;
      return reads.job(id);
    },
  };
  const jobs = new FakeJobs();
  Object.defineProperty(jobs, 'actions', { value: { ...jobs.actions, inspect } });
  const { port } = await serve({ jobs });
  const answers = Array.from({ length: 100 }, (_, i) => {
    const { id } = inserted[i % 25] as { id: string };
    return send(port, { path: i < 50 ? `/v1/jobs/${id}/status` : `/v1/jobs/${id}` }).then((answer) => {
      assert.equal(answer.status, 200);
      assert.equal(JSON.parse(answer.body).id, id);
    });
  });
  await until(() => asked === 100);
  gate.resolve();
  await Promise.all(answers);
  // The first, one that overtakes it because it hangs, and all who came meanwhile.
  assert.ok(statements <= 3, `${statements} statements`);
});
