// Long times, by the virtual clock: an hour of delay, a day of expiry, a quarter of an hour of lease.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { moveClock, type TestClock } from '../support/clock.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let clock: TestClock;

before(async () => {
  errand = await startErrand({ env: { ERRAND_LEASE_SECONDS: '900' } });
  clock = await moveClock(errand.databaseUrl);
});

after(async () => {
  await clock.end();
  await errand.stop();
});

async function submit(over: Parameters<typeof aSubmission>[0]): Promise<string> {
  return (await errand.actions.submit(aSubmission(over))).id;
}

async function state(id: string): Promise<string | undefined> {
  return (await errand.actions.inspect.job(id))?.state;
}

function lease(type: string) {
  const ask = { worker: 'w', queues: [], types: [type], limit: 1, lease_seconds: 900, wait_ms: 0 };
  return errand.actions.pull.lease(ask);
}

test('a job delayed by an hour is ready after that hour, not before', async () => {
  const id = await submit({ type: 'hour', delay_ms: 3_600_000 });
  await clock.forward(3_590);
  assert.equal(await state(id), 'scheduled');
  await clock.forward(11);
  await until(async () => (await state(id)) === 'queued', { timeoutMs: 12_000 });
});

test('a job waits out its backoff of 900 s', async () => {
  const backoff = JSON.stringify({ strategy: 'fixed', base_seconds: 900, cap_seconds: 900, jitter: 'none' });
  const id = await submit({ type: 'backoff', backoff });
  const [leased] = await lease('backoff');
  const failing = { class: 'retryable' as const, message: 'later', retry_after_seconds: null };
  const { next_at } = await errand.actions.pull.fail(leased?.lease_id as string, failing);
  assert.ok(next_at);
  await clock.forward(890);
  assert.equal(await state(id), 'retrying');
  await clock.forward(11);
  await until(async () => (await state(id)) === 'queued', { timeoutMs: 12_000 });
});

test('a lease of a quarter of an hour stands for that long, and its job is taken up afterwards', async () => {
  const id = await submit({ type: 'leased', timeout_seconds: 7_200 });
  await lease('leased');
  await clock.forward(890);
  assert.equal(await state(id), 'running');
  await clock.forward(11);
  await until(async () => (await state(id)) === 'queued', { timeoutMs: 5_000 });
});

test('a job expires after a day, and a job that runs by then ends as it ends', async () => {
  const tomorrow = new Date(Date.now() + 3 * 86_400_000).toISOString();
  const waiting = await submit({ type: 'nobody', expires_at: tomorrow });
  await submit({ type: 'someone', expires_at: tomorrow, timeout_seconds: 86_400 });
  const [leased] = await errand.actions.pull.lease({
    worker: 'w',
    queues: [],
    types: ['someone'],
    limit: 1,
    lease_seconds: 3_600,
    wait_ms: 0,
  });
  await clock.forward(3 * 86_400 - 3_000);
  await errand.actions.pull.heartbeat(leased?.lease_id as string, 3_600).catch(() => {});
  await clock.forward(3_001);
  await until(async () => (await state(waiting)) === 'expired', { timeoutMs: 15_000 });
});
