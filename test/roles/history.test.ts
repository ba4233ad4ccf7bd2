// What is read of a job's history on a real database: every way a start can end, progress in its place, and more starts than
// a page holds.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { openStream, type Received } from '../support/event-stream.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;

before(async () => {
  errand = await startErrand();
});

after(() => errand.stop());

async function call<Answer>(method: string, path: string, body: unknown = {}): Promise<Answer> {
  const answer = await fetch(`${errand.url}/v1${path}`, {
    method,
    headers: { 'content-type': 'application/json' },
    ...(method === 'GET' ? {} : { body: JSON.stringify(body) }),
  });
  assert.ok(answer.ok, `${method} ${path} => ${answer.status}`);
  return (answer.status === 204 ? null : await answer.json()) as Answer;
}

interface Rec {
  id: string;
  state: string;
  attempt: number;
  epoch: number;
  run_at: string;
  error: unknown;
  attempts: Record<string, unknown>[];
}

/** A job of a queue of its own, with the means to start it. */
async function aJob(over: object = {}) {
  const queue = crypto.randomUUID();
  const { id } = await call<Rec>('POST', '/jobs', { type: 'a', queue, max_attempts: 3, ...over });
  const lease = async (seconds = 30): Promise<string> => {
    const ask = { queues: [queue], worker: 'w', lease_seconds: seconds };
    const { leases } = await call<{ leases: { id: string }[] }>('POST', '/leases', ask);
    return `/leases/${leases[0]?.id}`;
  };
  return { id, lease };
}

const record = (id: string) => call<Rec>('GET', `/jobs/${id}?include=attempts`);

async function eventsOf(id: string): Promise<Received[]> {
  return (await call<{ items: Received[] }>('GET', `/jobs/${id}/events?limit=200`)).items;
}

/** The events in short; fails unless the last state that was told is the one of the record. */
async function told(id: string): Promise<string[]> {
  const [events, { state, attempt, epoch }] = await Promise.all([eventsOf(id), record(id)]);
  const { data } = events.findLast(({ event }) => event !== 'progress' && event !== 'checkpoint') as Received;
  // A start that will never be ends under its number, which the record shows as well.
  assert.deepEqual([data.state, data.attempt, data.epoch], [state, attempt, epoch]);
  return events.map(({ id: place, event, data }) => `${place} ${event} ${data.state ?? ''}`.trim());
}

test('a failure, a release and a completion', async () => {
  const { id, lease } = await aJob();
  assert.deepEqual(await told(id), ['1 state queued']);
  const first = await lease();
  assert.deepEqual(await told(id), ['1 state queued', '2 state running']);
  await call('POST', `${first}/release`, {});
  assert.deepEqual((await told(id)).slice(2), ['3 state queued']);
  await call('POST', `${await lease()}/release`, { delay_seconds: 600 });
  assert.deepEqual((await told(id)).slice(3), ['4 state running', '5 state scheduled']);
  const { attempts } = await record(id);
  assert.deepEqual(
    attempts.map(({ epoch, attempt, outcome, worker }) => [epoch, attempt, outcome, worker]),
    [
      [2, 1, 'released', 'w'],
      [1, 1, 'released', 'w'],
    ],
  );
});

test('a failure leaves the error and when it goes on, and so does the record', async () => {
  const { id, lease } = await aJob({ backoff: { strategy: 'fixed', base_seconds: 60, jitter: 'none' } });
  await call('POST', `${await lease()}/fail`, { message: 'no' });
  assert.deepEqual(await told(id), ['1 state queued', '2 state running', '3 state retrying']);
  const [{ data }] = (await eventsOf(id)).slice(-1) as [Received];
  const { error, run_at, attempts } = await record(id);
  assert.deepEqual(data.error, error);
  assert.equal(data.next_attempt_at, run_at);
  assert.equal(attempts[0]?.next_attempt_at, run_at);
  assert.equal(attempts[0]?.detail, 'no');
});

test('a start that is under way is the first of the attempts', async () => {
  const { id, lease } = await aJob();
  await lease();
  const { attempts } = await record(id);
  assert.equal(attempts.length, 1);
  assert.deepEqual([attempts[0]?.outcome, attempts[0]?.finished_at, attempts[0]?.worker], [null, null, 'w']);
});

test('a lost lease', async () => {
  const { id, lease } = await aJob();
  await lease(1);
  await until(async () => (await told(id)).length === 3);
  assert.deepEqual((await told(id)).slice(2), ['3 state queued']);
  const [{ data }] = (await eventsOf(id)).slice(-1) as [Received];
  assert.equal((data.error as { class: string }).class, 'lost');
});

test('a death, with its error', async () => {
  const { id, lease } = await aJob();
  await call('POST', `${await lease()}/fail`, { class: 'permanent', message: 'never' });
  assert.deepEqual((await told(id)).slice(2), ['3 done dead']);
  const [{ data }] = (await eventsOf(id)).slice(-1) as [Received];
  assert.deepEqual(data.error, (await record(id)).error);
});

test('a cancel before the start, of a delayed job, and while it runs', async () => {
  const waiting = await aJob();
  await call('POST', `/jobs/${waiting.id}/cancel`);
  assert.deepEqual(await told(waiting.id), ['1 state queued', '3 done cancelled']);
  assert.deepEqual((await record(waiting.id)).attempts, []);
  const delayed = await aJob({ delay_seconds: 600 });
  assert.deepEqual(await told(delayed.id), ['1 state scheduled']);
  await call('POST', `/jobs/${delayed.id}/cancel`);
  assert.deepEqual((await told(delayed.id)).slice(1), ['3 done cancelled']);
  const running = await aJob();
  const lease = await running.lease();
  await call('POST', `/jobs/${running.id}/cancel`);
  assert.deepEqual((await told(running.id)).slice(1), ['2 state running']);
  await call('POST', `${lease}/release`);
  assert.deepEqual((await told(running.id)).slice(2), ['3 done cancelled']);
});

test('an expiry', async () => {
  const { id } = await aJob({ expires_at: new Date(Date.now() + 300).toISOString() });
  await until(async () => (await record(id)).state === 'expired');
  assert.deepEqual(await told(id), ['1 state queued', '3 done expired']);
});

test('progress and checkpoint stay with the start that wrote them', async () => {
  const { id, lease } = await aJob();
  const first = await lease();
  await call('PUT', `${first}/progress`, { n: 1 });
  await call('PUT', `${first}/checkpoint`, { at: 'a' });
  await call('POST', `${first}/release`);
  const second = await lease();
  assert.deepEqual((await told(id)).slice(1, 5), [
    '2 state running',
    '2.1 progress',
    '2.2 checkpoint',
    '3 state queued',
  ]);
  await call('PUT', `${second}/progress`, { n: 2 });
  assert.deepEqual(await told(id), [
    '1 state queued',
    '2 state running',
    '2.2 checkpoint',
    '3 state queued',
    '4 state running',
    '4.3 progress',
  ]);
  await call('POST', `${second}/heartbeat`, { progress: { n: 3 } });
  await call('POST', `${second}/complete`, {});
  assert.deepEqual((await told(id)).slice(4), ['4 state running', '4.4 progress', '5 done succeeded']);
});

test('more starts than a page holds are told page by page, and to a stream', async () => {
  const { id, lease } = await aJob();
  const starts = 230;
  for (let n = 1; n < starts; n++) await call('POST', `${await lease()}/release`);
  const last = await lease();
  await call('PUT', `${last}/progress`, 'half');
  await call('POST', `${last}/complete`);
  const pages: Received[][] = [];
  for (let after = '0'; ; ) {
    const page = await call<{ items: Received[]; next_cursor: string | null; terminal: boolean }>(
      'GET',
      `/jobs/${id}/events?limit=150&after=${after}`,
    );
    pages.push(page.items);
    assert.equal(page.terminal, true);
    if (page.next_cursor === null) break;
    after = page.next_cursor;
  }
  const steps = Array.from({ length: 2 * starts + 1 }, (_, i) => String(i + 1));
  const expected = [...steps.slice(0, -1), `${2 * starts}.1`, ...steps.slice(-1)];
  assert.ok(pages.length > 3);
  assert.deepEqual(
    pages.flat().map((event) => event.id),
    expected,
  );
  const stream = await openStream(errand.url, id);
  assert.equal(await stream.over, true);
  assert.deepEqual(
    stream.events.map((event) => event.id),
    expected,
  );
  const { attempts } = await record(id);
  assert.equal(attempts.length, 100);
  assert.equal(attempts[0]?.epoch, starts);
});
