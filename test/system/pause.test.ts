// A pause outlives every process: nothing starts after all replicas were restarted and more were added, and a resume lets
// everything go within a second.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { calling } from '../support/call.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;
let replicas: Service[] = [];
const call = calling(() => replicas[0]?.url as string);

before(async () => {
  database = await cloneDatabase();
});

after(async () => {
  await Promise.all(replicas.map((one) => one.stop()));
  await database.drop();
});

const start = () =>
  startService({
    env: { DATABASE_URL: database.url, ERRAND_LOG_LEVEL: 'error', ERRAND_HANDLERS_DIR: 'examples/handlers' },
  });

const stateOf = async (id: string) => (await call.get(`/v1/jobs/${id}`)).json.state;

test('a paused queue starts nothing over a restart of all replicas and a scale-up; resumed, it starts within a second', async () => {
  replicas = await Promise.all([start(), start()]);
  await call('PUT', '/v1/queues/mails', {});
  const paused = await call.post('/v1/queues/mails/pause', { reason: 'maintenance' });
  assert.equal(paused.json.changed, true);
  const ids: string[] = [];
  for (let n = 0; n < 20; n++) {
    ids.push((await call.post('/v1/jobs', { queue: 'mails', type: 'echo', payload: n })).json.id);
  }
  await Promise.all(replicas.map((one) => one.stop()));
  replicas = await Promise.all([start(), start(), start()]);
  // Jobs elsewhere show that all of them work.
  const probes = await Promise.all(
    replicas.map(async ({ url }) => calling(() => url).post('/v1/jobs', { queue: 'free', type: 'echo' })),
  );
  await until(async () =>
    (await Promise.all(probes.map(({ json }) => stateOf(json.id)))).every((state) => state === 'succeeded'),
  );
  const { json: queue } = await call.get('/v1/queues/mails');
  assert.deepEqual([queue.state, queue.pause.reason, queue.running], ['paused', 'maintenance', 0]);
  for (const id of ids) {
    const { json } = await call.get(`/v1/jobs/${id}`);
    assert.deepEqual([json.state, json.epoch], ['queued', 0]);
  }
  const leased = await call.post('/v1/leases', { worker: 'w', queues: ['mails'], limit: 5 });
  assert.deepEqual(leased.json.leases, []);
  const resumed = await call.post('/v1/queues/mails/resume');
  await until(async () => (await stateOf(ids[0] as string)) === 'succeeded');
  const { json: first } = await call.get(`/v1/jobs/${ids[0]}?include=attempts`);
  assert.equal(first.attempts.length, 1);
  const took = Date.parse(first.attempts[0].started_at) - Date.parse(resumed.json.changed_at);
  assert.ok(took < 1_000, `the first job started ${took} ms after the resume`);
  await until(async () => (await Promise.all(ids.map(stateOf))).every((state) => state === 'succeeded'));
});
