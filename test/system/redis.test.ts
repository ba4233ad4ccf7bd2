// Redis only makes things faster: with waiters on one replica and completions on the other it carries hints; stopped and
// started again under load nothing is lost, nothing fails, and /health says so.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;
let redis: TestRedis;
let front: Service;
let back: Service;

before(async () => {
  [database, redis] = await Promise.all([cloneDatabase(), startRedis()]);
  const env = { DATABASE_URL: database.url, REDIS_URL: redis.url, ERRAND_LOG_LEVEL: 'error' };
  [front, back] = await Promise.all([
    startService({ env: { ...env, ERRAND_ROLES: 'api' } }),
    startService({ env: { ...env, ERRAND_HANDLERS_DIR: 'examples/handlers' } }),
  ]);
});

after(async () => {
  await Promise.all([front.stop(), back.stop()]);
  await redis.stop();
  await database.drop();
});

test('callers who wait at one replica are answered by the other’s work, with Redis, without it, and with it again', async () => {
  const counts = { answered: 0, failed: [] as string[] };
  let flowing = true;
  const caller = async (name: number): Promise<void> => {
    for (let n = 0; flowing; n++) {
      const payload = `"${name}.${n}"`;
      const answer = await fetch(`${front.url}/v1/jobs`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'errand-expect': '200-ok' },
        body: `{"type":"echo","payload":${payload}}`,
      });
      const text = await answer.text();
      if (answer.status === 200 && text === payload) counts.answered++;
      else counts.failed.push(`${answer.status} ${text}`);
    }
  };
  const callers = Array.from({ length: 8 }, (_, name) =>
    caller(name).catch((error) => counts.failed.push(String(error))),
  );
  const more = async (): Promise<void> => {
    const from = counts.answered;
    await until(async () => counts.answered >= from + 100, { timeoutMs: 20_000 });
  };

  await until(async () => (await received()) > 0, { timeoutMs: 10_000 });
  await until(async () => (await checkOf('redis')).state === 'up', { timeoutMs: 5_000 });
  await more();

  await redis.kill();
  await until(async () => (await checkOf('redis')).state === 'down', { timeoutMs: 10_000 });
  const health = await fetch(`${front.url}/health`);
  assert.equal(health.status, 200);
  assert.equal(((await health.json()) as { status: string }).status, 'warn');
  assert.equal((await fetch(`${front.url}/health/ready`)).status, 200);
  const before = await received();
  await more();

  await redis.restart();
  await until(async () => (await checkOf('redis')).state === 'up', { timeoutMs: 15_000 });
  await until(async () => (await received()) > before, { timeoutMs: 15_000 });
  await more();
  flowing = false;
  await Promise.all(callers);
  assert.deepEqual(counts.failed, []);
});

async function checkOf(store: string): Promise<{ state: string }> {
  const { checks } = (await (await fetch(`${front.url}/health`)).json()) as {
    checks: Record<string, { state: string }[]>;
  };
  return checks[`${store}:responseTime`]?.[0] as { state: string };
}

async function received(): Promise<number> {
  const text = await (await fetch(`${front.url}/metrics`)).text();
  return Number(/^errand_hints_total\{direction="received"\} (\d+)$/m.exec(text)?.[1] ?? 0);
}
