// Changing a job that waits and running one again: over sockets, on a real database.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Called, calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';

let errand: TestErrand;
before(async () => {
  errand = await startErrand();
});
after(() => errand.stop());

const call = calling(() => errand.url);
const { get, post } = call;

async function submit(job: object): Promise<string> {
  return (await post('/v1/jobs', job)).json.id;
}

const patch = (id: string, change: object, headers = {}) =>
  call('PATCH', `/v1/jobs/${id}`, change, { 'content-type': 'application/merge-patch+json', ...headers });

/** Jobs of a type in the order in which they are handed out. */
async function handedOut(type: string, limit = 100): Promise<Called['json'][]> {
  // Longer than the two seconds of the test's service: on a busy machine they would be lost, and start again.
  return (await post('/v1/leases', { types: [type], limit, lease_seconds: 60 })).json.leases;
}

const idsOf = (leases: Called['json'][]) => leases.map((lease) => lease.job.id);

test('a patch changes what it names and keeps the rest', async () => {
  const id = await submit({ type: 'p1', priority: 4, tags: ['old', 'both'], max_attempts: 3 });
  const changed = await patch(id, { priority: 1, tags: ['both', 'new'] });
  assert.equal(changed.status, 200);
  const { priority, tags, max_attempts, state, queue } = changed.json;
  assert.deepEqual(
    [priority, tags, max_attempts, state, queue],
    [1, ['both', 'new'], 3, 'queued', 'default'],
  );
  assert.deepEqual((await get(`/v1/jobs/${id}`)).json, changed.json);
  const moved = await patch(id, { queue: 'elsewhere', max_attempts: 9, tags: null });
  assert.deepEqual([moved.json.queue, moved.json.max_attempts, moved.json.tags], ['elsewhere', 9, []]);
  const [lease] = (await post('/v1/leases', { queues: ['elsewhere'] })).json.leases;
  assert.deepEqual([lease.job.id, lease.job.priority, lease.job.max_attempts], [id, 1, 9]);
});

test('a job keeps its place unless queue or priority change, and moves to its new one when they do', async () => {
  const ids = [];
  for (let n = 0; n < 4; n++) ids.push(await submit({ type: 'p2' }));
  const [first, second, third, fourth] = ids as [string, string, string, string];
  await patch(second, { tags: ['kept'] });
  await patch(fourth, { priority: 0 });
  assert.deepEqual(idsOf(await handedOut('p2')), [fourth, first, second, third]);
});

test('a patch of run_at delays a job that is ready and brings forward one that waits', async () => {
  const ready = await submit({ type: 'p3' });
  const delayed = await patch(ready, { run_at: '2099-01-01T00:00:00Z' });
  assert.deepEqual([delayed.json.state, delayed.json.run_at], ['scheduled', '2099-01-01T00:00:00.000Z']);
  assert.deepEqual(await handedOut('p3'), []);
  await patch(ready, { priority: 2 });
  assert.equal(
    (await get(`/v1/jobs/${ready}`)).json.state,
    'scheduled',
    'another change leaves its time alone',
  );
  const now = await patch(ready, { run_at: null });
  assert.equal(now.json.state, 'queued');
  assert.deepEqual(idsOf(await handedOut('p3')), [ready]);
  const soon = await submit({ type: 'p3', delay_seconds: 600 });
  await patch(soon, { run_at: new Date(Date.now() + 300).toISOString() });
  const { leases } = (await post('/v1/leases', { types: ['p3'] }, { prefer: 'wait=10' })).json;
  assert.deepEqual(idsOf(leases), [soon]);
});

test('the news of an end comes from the queue and with the priority the job has by then', async () => {
  const url = 'http://127.0.0.1:19999/done';
  const id = await submit({
    type: 'p-told',
    queue: 'here',
    run_at: '2099-01-01T00:00:00Z',
    callback: { url },
  });
  await patch(id, { queue: 'there', priority: 2 });
  await post(`/v1/jobs/${id}/cancel`);
  const told = (await get('/v1/jobs?type=errand.callback')).json.items.filter(
    (job: Called['json']) => job.callback_of === id,
  );
  assert.deepEqual(
    told.map((job: Called['json']) => [job.queue, job.priority]),
    [['there', 2]],
  );
});

test('what runs or has ended is not changed', async () => {
  const id = await submit({ type: 'p4' });
  const [lease] = await handedOut('p4');
  const running = await patch(id, { priority: 1 });
  assert.deepEqual(
    [running.status, running.json.code, running.json.job.state],
    [409, 'job-state-conflict', 'running'],
  );
  assert.match(running.json.detail, /is running and cannot be changed; wait for its end, or cancel it$/);
  await post(`/v1/leases/${lease.id}/complete`, {});
  const ended = await patch(id, { priority: 1 });
  assert.equal(ended.status, 409);
  assert.match(ended.json.detail, /is succeeded and cannot be changed; submit a new one$/);
  assert.equal((await patch('999999999', { priority: 1 })).status, 404);
});

test('a patch that cannot be used is refused with the place of the fault', async () => {
  const id = await submit({ type: 'p5' });
  for (const [change, pointer] of [
    [{ priority: 10 }, '#/priority'],
    [{ state: 'dead' }, '#/state'],
    [{ payload: 1 }, '#/payload'],
    [{ priority: null }, '#/priority'],
    [{ queue: 'No' }, '#/queue'],
    [{}, '#'],
  ] as const) {
    const answer = await patch(id, change);
    assert.deepEqual([answer.status, answer.json.errors[0].pointer], [422, pointer]);
  }
  const type = await patch(id, { priority: 1 }, { 'content-type': 'text/plain' });
  assert.equal(type.status, 415);
  assert.match(type.headers.get('accept-patch') ?? '', /application\/merge-patch\+json/);
  const elsewhere = await post('/v1/jobs', '{"type":"p5"}', {
    'content-type': 'application/merge-patch+json',
  });
  assert.equal(elsewhere.status, 415);
});

test('of many patches under If-Match exactly one is made', async () => {
  const id = await submit({ type: 'p6' });
  const etag = (await get(`/v1/jobs/${id}`)).headers.get('etag') as string;
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, n) => patch(id, { max_attempts: n + 1 }, { 'if-match': etag })),
  );
  const statuses = answers.map((answer) => answer.status).sort();
  assert.deepEqual(statuses, [200, ...Array(9).fill(412)]);
  const now = answers.find((answer) => answer.status === 412)?.headers.get('etag');
  assert.equal((await patch(id, { priority: 3 }, { 'if-match': now as string })).status, 200);
  assert.equal(
    (await patch(id, { priority: 3 }, { 'if-match': `W/${now}` })).status,
    412,
    'weak tags never match',
  );
});

test('jobs that are patched while they are claimed start once or are changed, never both and never neither', async () => {
  const total = 60;
  const { json } = await post('/v1/jobs/batch', {
    jobs: Array.from({ length: total }, () => ({ type: 'p7' })),
  });
  const ids: string[] = json.jobs.map((job: { id: string }) => job.id);
  const started: string[] = [];
  const claiming = (async () => {
    while (started.length < total) {
      const leases = await handedOut('p7', 3);
      started.push(...idsOf(leases));
      if (leases.length === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  const answers = await Promise.all(ids.map((id, n) => patch(id, { priority: n % 10 })));
  await claiming;
  assert.deepEqual([...started].sort(), [...ids].sort());
  assert.ok(answers.every((answer) => answer.status === 200 || answer.status === 409));
});

test('retry makes a job that waits for its next attempt run now', async () => {
  const id = await submit({ type: 'r1', backoff: { strategy: 'fixed', base_seconds: 600, jitter: 'none' } });
  const [lease] = await handedOut('r1');
  await post(`/v1/leases/${lease.id}/fail`, { message: 'not yet' });
  assert.equal((await get(`/v1/jobs/${id}`)).json.state, 'retrying');
  const retried = await post(`/v1/jobs/${id}/retry`);
  assert.deepEqual([retried.status, retried.headers.get('location')], [202, `/v1/jobs/${id}/status`]);
  assert.equal((await post(`/v1/jobs/${id}/retry`)).status, 202, 'repeated, it is what was asked for');
  const [again] = await handedOut('r1');
  assert.deepEqual([again.job.id, again.attempt], [id, 2]);
  const running = await post(`/v1/jobs/${id}/retry`);
  assert.deepEqual([running.status, running.json.code], [409, 'job-state-conflict']);
});

test('retry repeats a job that ended without success, with every option, once', async () => {
  const options = {
    type: 'r2',
    queue: 'again',
    priority: 2,
    max_attempts: 1,
    timeout_seconds: 7,
    tags: ['t'],
  };
  const id = await submit({ ...options, payload: { n: 1 } });
  const [lease] = (await post('/v1/leases', { queues: ['again'] })).json.leases;
  await post(`/v1/leases/${lease.id}/fail`, { class: 'permanent', message: 'no' });
  const answers = await Promise.all(Array.from({ length: 8 }, () => post(`/v1/jobs/${id}/retry`)));
  const locations = new Set(answers.map((answer) => answer.headers.get('location')));
  assert.equal(locations.size, 1);
  const made = answers[0]?.json;
  assert.notEqual(made.id, id);
  assert.equal(made.retry_of, id);
  for (const [name, value] of Object.entries(options)) assert.deepEqual(made[name], value, name);
  assert.equal(made.attempt, 0);
  const [second] = (await post('/v1/leases', { queues: ['again'] })).json.leases;
  assert.deepEqual([second.job.id, second.job.payload], [made.id, { n: 1 }]);
  assert.equal((await get(`/v1/jobs/${id}`)).json.state, 'dead', 'what has ended never changes');
});

test('retry repeats cancelled and expired jobs, and refuses what succeeded or is scheduled', async () => {
  const cancelled = await submit({ type: 'r3' });
  await post(`/v1/jobs/${cancelled}/cancel`);
  assert.equal((await post(`/v1/jobs/${cancelled}/retry`)).json.retry_of, cancelled);
  const expired = await submit({
    type: 'r3x',
    expires_at: new Date(Date.now() + 200).toISOString(),
    delay_seconds: 0.1,
  });
  await errand.next('job.ended', (end) => end.job_id === expired);
  const again = await post(`/v1/jobs/${expired}/retry`);
  assert.deepEqual(
    [again.status, again.json.expires_at],
    [202, null],
    'a moment that has passed is not kept',
  );
  const scheduled = await submit({ type: 'r3', delay_seconds: 600 });
  assert.equal((await post(`/v1/jobs/${scheduled}/retry`)).status, 409);
  const [lease] = await handedOut('r3');
  await post(`/v1/leases/${lease.id}/complete`, {});
  assert.equal((await post(`/v1/jobs/${lease.job.id}/retry`)).status, 409);
  assert.equal((await post('/v1/jobs/999999999/retry')).status, 404);
});
