// A start waits for a database that is not up and for a migration that still runs, answers probes meanwhile, and ends at
// once where waiting mends nothing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { migrate } from '../../src/store/migrate.ts';
import { exitOf } from '../support/children.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { faultProxy } from '../support/proxy.ts';
import { onServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;

before(async () => {
  database = await cloneDatabase();
});
after(() => database.drop());

function start(url: string, env: Record<string, string> = {}): Promise<Service> {
  return startService({
    env: { DATABASE_URL: url, ERRAND_START_WAIT_SECONDS: '60', ...env },
    awaitReady: false,
  });
}

async function probe(service: Service, which: string): Promise<{ status: number; output: string }> {
  const answer = await fetch(`${service.url}/health/${which}`);
  return { status: answer.status, output: ((await answer.json()) as { output: string }).output };
}

const answers = (service: Service) =>
  until(async () => (await probe(service, 'live')).status === 200, { timeoutMs: 20_000 });

const isReady = (service: Service) =>
  until(async () => (await probe(service, 'ready')).status === 200, { timeoutMs: 20_000 });

test('a start waits for the schema: it lives, has not started, and goes on by itself once the migration is done', async () => {
  await onServer(database.url, (client) =>
    client.query('drop schema errand cascade; drop schema errand_migrations cascade'),
  );
  const service = await start(database.url);
  try {
    await answers(service);
    for (const which of ['startup', 'ready', '']) {
      const { status, output } = await probe(service, which);
      assert.equal(status, 503, which);
      assert.match(output, /^starting: the schema lacks 0001_jobs/, which);
    }
    const call = await fetch(`${service.url}/v1/jobs`, { method: 'POST', body: '{}' });
    const { code, type } = (await call.json()) as { code: string; type: string };
    assert.deepEqual(
      [call.status, code, type],
      [503, 'database-unavailable', '/problems/database-unavailable'],
    );
    assert.ok(Number(call.headers.get('retry-after')) >= 1);
    await migrate(database.url);
    await isReady(service);
    assert.equal((await probe(service, 'startup')).status, 200);
    assert.match(service.output(), /waiting: the schema lacks/);
  } finally {
    assert.equal(await service.stop(), 0);
  }
});

test('a start waits for a database that is not up', async () => {
  const proxy = await faultProxy(Number(new URL(database.url).port));
  await proxy.refuse();
  const url = new URL(database.url);
  url.port = String(proxy.port);
  const service = await start(url.href);
  try {
    await answers(service);
    assert.match((await probe(service, 'startup')).output, /ECONNREFUSED/);
    await proxy.heal();
    await isReady(service);
  } finally {
    assert.equal(await service.stop(), 0);
    await proxy.stop();
  }
});

test('SIGTERM ends a start that waits, without a complaint', async () => {
  const service = await start('postgres://127.0.0.1:1/nobody');
  await answers(service);
  const began = performance.now();
  assert.equal(await service.stop('SIGTERM'), 0, service.output());
  assert.ok(performance.now() - began < 3_000);
});

test('a start that waits in vain ends with the reason, and one that nothing can mend does not wait', async () => {
  const away = await start('postgres://127.0.0.1:1/nobody', { ERRAND_START_WAIT_SECONDS: '1' });
  assert.equal(await exitOf(away.child), 1);
  assert.match(away.output(), /ECONNREFUSED/);
  const url = new URL(database.url);
  url.pathname = '/no_such_database';
  const began = performance.now();
  const wrong = await start(url.href);
  assert.equal(await exitOf(wrong.child), 1);
  assert.match(wrong.output(), /"no_such_database" does not exist/);
  assert.ok(performance.now() - began < 20_000);
});
