// Watching on a real database: a crowd costs a few statements, a database that is away delays and cuts nobody, and a stop ends
// every stream at once.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { openStream } from '../support/event-stream.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { faultProxy } from '../support/proxy.ts';
import { until } from '../support/until.ts';

const started: TestErrand[] = [];
after(() => Promise.all(started.map((errand) => errand.stop())));

async function start(env: Record<string, string> = {}, databaseUrl?: string): Promise<TestErrand> {
  const errand = await startErrand({ env, ...(databaseUrl === undefined ? {} : { databaseUrl }) });
  started.push(errand);
  return errand;
}

test('1,000 callers who wait for a change cost a few statements a second, and all are told', async () => {
  const errand = await start({ ERRAND_ROLES: 'api' });
  const ids = await Promise.all(
    Array.from({ length: 100 }, () => errand.actions.submit(aSubmission({ type: 'watched' }))),
  );
  const poll = async (n: number) => {
    const answer = await fetch(`${errand.url}/v1/jobs/${ids[n % 100]?.id}/status`, {
      headers: { prefer: 'wait=20' },
    });
    return ((await answer.json()) as { state: string }).state;
  };
  const polls = Array.from({ length: 1_000 }, (_, n) => poll(n));
  await until(() => errand.actions.waiters.count === 1_000);
  // Each looks once more after the first look at its job; then they only wait.
  await pause(600);
  let asked = 0;
  const { query } = pg.Client.prototype;
  pg.Client.prototype.query = function (this: pg.Client, ...words: unknown[]) {
    asked++;
    return (query as (...all: unknown[]) => unknown).apply(this, words);
  } as typeof query;
  try {
    await pause(2_000);
  } finally {
    pg.Client.prototype.query = query;
  }
  assert.ok(asked > 0, 'nobody looked');
  assert.ok(asked <= 24, `${asked} statements in 2 s`);
  await Promise.all(ids.map(({ id }) => errand.actions.cancel.cancel(id)));
  assert.ok((await Promise.all(polls)).every((state) => state === 'cancelled'));
});

test('a stream outlives a database that is away, and goes on where it was', async () => {
  const database = await cloneDatabase();
  after(() => database.drop());
  const address = new URL(database.url);
  const proxy = await faultProxy(Number(address.port));
  after(() => proxy.stop());
  const behind = new URL(database.url);
  behind.hostname = '127.0.0.1';
  behind.port = String(proxy.port);
  const errand = await start({ ERRAND_STATEMENT_TIMEOUT_SECONDS: '0.5' }, behind.href);
  const other = await start({ ERRAND_ROLES: 'api' }, database.url);
  const { id } = await errand.actions.submit(aSubmission({ type: 'nobody' }));
  const stream = await openStream(errand.url, id);
  await until(() => stream.events.length === 1);
  await proxy.refuse();
  await other.actions.cancel.cancel(id);
  const refused = await openStream(errand.url, id);
  assert.equal(refused.status, 503);
  refused.cut();
  await proxy.heal();
  assert.equal(await stream.over, true);
  assert.deepEqual(
    stream.events.map((event) => event.id),
    ['1', '3'],
  );
});

test('a stop ends all streams at once', async () => {
  const errand = await start();
  const { id } = await errand.actions.submit(aSubmission({ type: 'nobody' }));
  const streams = await Promise.all(Array.from({ length: 50 }, () => openStream(errand.url, id)));
  await until(() => streams.every(({ events }) => events.length === 1));
  const began = performance.now();
  const [ends] = await Promise.all([Promise.all(streams.map(({ over }) => over)), errand.stop()]);
  assert.ok(ends.every(Boolean));
  assert.ok(performance.now() - began < 1_500, 'the streams held the stop up');
});
