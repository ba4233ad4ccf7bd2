// The database goes away: refused at first, then silent. Every call is answered in bounded time, nothing that was
// accepted is lost, and the service heals without a restart.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { type FaultProxy, faultProxy } from '../support/proxy.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;
let proxy: FaultProxy;
let service: Service;

before(async () => {
  database = await cloneDatabase();
  const url = new URL(database.url);
  proxy = await faultProxy(Number(url.port));
  url.port = String(proxy.port);
  service = await startService({
    env: {
      DATABASE_URL: url.href,
      ERRAND_HANDLERS_DIR: 'examples/handlers',
      ERRAND_LEASE_SECONDS: '2',
      ERRAND_STATEMENT_TIMEOUT_SECONDS: '1',
      ERRAND_LOG_LEVEL: 'error',
    },
  });
});

after(async () => {
  await service.stop();
  await proxy.stop();
  await database.drop();
});

async function submit(): Promise<{ status: number; ms: number; id: string | undefined; headers: Headers }> {
  const began = performance.now();
  const answer = await fetch(`${service.url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"type":"echo","payload":1}',
  });
  const { id } = (await answer.json()) as { id?: string };
  return { status: answer.status, ms: performance.now() - began, id, headers: answer.headers };
}

async function state(id: string): Promise<string> {
  const answer = await fetch(`${service.url}/v1/jobs/${id}`);
  return ((await answer.json()) as { state: string }).state;
}

for (const fault of ['refuse', 'blackHole'] as const) {
  test(`heals after a database that does ${fault === 'refuse' ? 'not take connections' : 'not answer'}`, async () => {
    const before = await submit();
    assert.equal(before.status, 202);
    await proxy[fault]();
    const during = await Promise.all(Array.from({ length: 20 }, submit));
    for (const { status, ms, headers } of during) {
      assert.equal(status, 503);
      assert.ok(Number(headers.get('retry-after')) >= 1, 'no Retry-After');
      assert.ok(ms < 8_000, `answered after ${Math.round(ms)} ms`);
    }
    assert.equal((await fetch(`${service.url}/health/live`)).status, 200);
    assert.equal((await fetch(`${service.url}/health/ready`)).status, 200, 'a blip emptied the service');
    await proxy.heal();
    await until(async () => (await submit()).status === 202, { timeoutMs: 10_000, everyMs: 250 });
    await until(async () => (await state(before.id as string)) === 'succeeded', { timeoutMs: 15_000 });
    const { id } = await submit();
    await until(async () => (await state(id as string)) === 'succeeded', { timeoutMs: 15_000 });
  });
}
