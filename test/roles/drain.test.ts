// While a process finishes its jobs its door stays open: whoever holds a lease can keep and complete it, nobody gets new
// work, and who waited is answered at once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defineHandler } from '../../src/errand.ts';
import { calling } from '../support/call.ts';
import { startErrand } from '../support/errand.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { databaseUrl, onServer } from '../support/server.ts';
import { until } from '../support/until.ts';

test('a process that finishes its jobs still takes what its workers bring', async () => {
  const gate = Promise.withResolvers<void>();
  const errand = await startErrand({
    handlers: [defineHandler({ type: 'slow', run: () => gate.promise })],
  });
  const { get, post } = calling(() => errand.url);
  const running = errand.next('job.claimed', ({ type }) => type === 'slow');
  await post('/v1/jobs', { type: 'slow' });
  await running;
  const { json: pulled } = await post('/v1/jobs', { type: 'pulled' });
  const [lease] = (await post('/v1/leases', { types: ['pulled'] })).json.leases;
  const waiting = post('/v1/jobs', { type: 'pulled' }, { prefer: 'wait=20' });
  await errand.next('job.submitted');
  const stopped = errand.stop();
  assert.equal((await waiting).status, 202, 'who waited is answered at once');
  assert.equal((await get('/health/ready')).status, 503);
  assert.equal((await get('/health/live')).status, 200);
  assert.equal((await post(`/v1/leases/${lease.id}/heartbeat`)).json.draining, true);
  assert.equal((await post('/v1/leases', { types: ['pulled'] })).json.code, 'draining');
  assert.equal((await post(`/v1/leases/${lease.id}/complete`, { result: 1 })).json.id, pulled.id);
  gate.resolve();
  await stopped;
});

test('until balancers have noticed it serves as ever, and closes the connections of whoever asks', async () => {
  const database = await cloneDatabase();
  const errand = await startErrand({
    databaseUrl: database.url,
    env: { ERRAND_DRAIN_DELAY_SECONDS: '2' },
  });
  const { get, post } = calling(() => errand.url);
  assert.notEqual((await get('/health/live')).headers.get('connection'), 'close');
  const drained = errand.drain(false);
  const probe = await get('/health/ready');
  assert.deepEqual([probe.status, probe.json.output], [503, 'draining']);
  const submitted = await post('/v1/jobs', { type: 'pulled' });
  assert.deepEqual([submitted.status, submitted.headers.get('connection')], [202, 'close']);
  const [lease] = (await post('/v1/leases', { types: ['pulled'] })).json.leases;
  assert.equal(lease.job.id, submitted.json.id);
  assert.equal((await post(`/v1/leases/${lease.id}/heartbeat`)).json.draining, true);
  assert.equal((await post(`/v1/leases/${lease.id}/complete`, { result: 1 })).status, 200);
  const empty = await post('/v1/leases', { types: ['pulled'] }, { prefer: 'wait=20' });
  assert.deepEqual(
    [empty.status, empty.json.leases],
    [200, []],
    'who waits for work is sent away without an error',
  );
  await drained;
  await database.drop();
});

test('the door stays open while newcomers come, at most as long again as balancers were given', async () => {
  const database = await cloneDatabase();
  const errand = await startErrand({
    databaseUrl: database.url,
    env: { ERRAND_DRAIN_DELAY_SECONDS: '1.5' },
  });
  const { get } = calling(() => errand.url);
  let failed: unknown;
  const began = performance.now();
  const drained = errand.drain(false);
  // Each answer closes its connection, so each call is a newcomer.
  while (performance.now() - began < 2_200) {
    assert.equal((await get('/health/live')).status, 200);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await drained;
  const took = performance.now() - began;
  assert.ok(took >= 2_900 && took < 4_900, `it took ${Math.round(took)} ms`);
  await get('/health/live').catch((error) => {
    failed = error;
  });
  assert.ok(failed !== undefined, 'the door is still open');
  await database.drop();
});

test('a server that hangs does not hold the drain up', async () => {
  const database = await cloneDatabase();
  const errand = await startErrand({
    databaseUrl: database.url,
    env: { ERRAND_DRAIN_DEADLINE_SECONDS: '2', ERRAND_STATEMENT_TIMEOUT_SECONDS: '0.5' },
  });
  const name = new URL(database.url).pathname.slice(1);
  const backends = () =>
    onServer(databaseUrl(database.url, 'postgres'), async (client) => {
      const { rows } = await client.query<{ pid: number }>(
        'select pid from pg_stat_activity where datname = $1',
        [name],
      );
      return rows.map(({ pid }) => pid);
    });
  await until(async () => (await backends()).length >= 3);
  const frozen = await backends();
  for (const pid of frozen) process.kill(pid, 'SIGSTOP');
  try {
    const began = performance.now();
    await errand.drain(true);
    assert.ok(performance.now() - began < 10_000, 'it waited for the server');
  } finally {
    for (const pid of frozen) process.kill(pid, 'SIGCONT');
  }
  await database.drop();
});
