// /health on real stores: one that answers and refuses writes is told apart from one that is well, and a thousand probes
// make no statement of their own.
import assert from 'node:assert/strict';
import { after, before, mock, test } from 'node:test';
import { Redis } from 'ioredis';
import pg from 'pg';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { databaseUrl, onServer } from '../support/server.ts';
import { until } from '../support/until.ts';

let redis: TestRedis;
let errand: TestErrand;

before(async () => {
  redis = await startRedis();
  errand = await startErrand({ env: { REDIS_URL: redis.url } });
});
after(async () => {
  await errand.stop();
  await redis.stop();
});

const { get } = calling(() => errand.url);

async function checkOf(store: string) {
  const { status, json } = await get('/health');
  const [check] = json.checks[`${store}:responseTime`];
  return { answer: status, overall: json.status, state: check.state, output: check.output ?? '' };
}

const becomes = (store: string, state: string) =>
  until(async () => (await checkOf(store)).state === state, { timeoutMs: 15_000 });

test('a Redis that answers and refuses writes is down, which is a warning', async () => {
  const operator = new Redis(redis.url);
  operator.on('error', () => {});
  try {
    const faults = [
      { words: ['replicaof', '127.0.0.1', '1'], undo: ['replicaof', 'no', 'one'], says: /READONLY/ },
      { words: ['config', 'set', 'maxmemory', '1'], undo: ['config', 'set', 'maxmemory', '0'], says: /OOM/ },
    ] as const;
    for (const { words, undo, says } of faults) {
      await becomes('redis', 'up');
      await operator.call(words[0], ...words.slice(1));
      assert.equal(await operator.ping(), 'PONG');
      await until(async () => says.test((await checkOf('redis')).output), { timeoutMs: 15_000 });
      const { answer, overall } = await checkOf('redis');
      assert.deepEqual([answer, overall], [200, 'warn']);
      assert.equal((await get('/health/ready')).status, 200);
      await operator.call(undo[0], ...undo.slice(1));
    }
    await becomes('redis', 'up');
  } finally {
    operator.disconnect();
  }
});

test('a Postgres that answers and refuses writes is down, and the report fails until it takes them again', async () => {
  const name = new URL(errand.databaseUrl).pathname.slice(1);
  const readOnly = (value: string) =>
    onServer(databaseUrl(errand.databaseUrl, 'postgres'), async (client) => {
      await client.query(`alter database ${name} set default_transaction_read_only = ${value}`);
      // On the way back nobody ends the sessions that refuse writes: whoever finds that gives them up.
      if (value === 'off') return;
      await client.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name]);
    });
  await becomes('postgres', 'up');
  await readOnly('on');
  await until(async () => /refuses writes/.test((await checkOf('postgres')).output), { timeoutMs: 15_000 });
  const { answer, overall } = await checkOf('postgres');
  assert.deepEqual([answer, overall], [503, 'fail']);
  assert.equal((await get('/health/live')).status, 200);
  await readOnly('off');
  await becomes('postgres', 'up');
});

test('a thousand probes make no statement: those of a second are the one that looks', async () => {
  await becomes('postgres', 'up');
  const texts: string[] = [];
  const query = pg.Client.prototype.query;
  const spy = mock.method(pg.Client.prototype, 'query', function (this: pg.Client, ...words: unknown[]) {
    const [first] = words as [string | { text: string }];
    texts.push(typeof first === 'string' ? first : first.text);
    return Reflect.apply(query, this, words);
  });
  try {
    const began = performance.now();
    const kinds = ['/health', '/health/live', '/health/ready', '/health/startup'];
    for (let n = 0; n < 40; n++)
      await Promise.all(Array.from({ length: 25 }, (_, i) => get(`${kinds[i % 4]}`)));
    const seconds = (performance.now() - began) / 1_000;
    const looks = texts.filter((text) => text.includes('pg_is_in_recovery'));
    assert.ok(looks.length <= 1 + seconds, `${looks.length} looks in ${seconds} s`);
    assert.ok(texts.length < 100 * seconds + 100, `${texts.length} statements in ${seconds} s`);
  } finally {
    spy.mock.restore();
  }
});
