// The lease protocol on the wire: what a worker in any language sends and is told.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeJobs } from '../support/fake-actions.ts';
import { get, headOf, open, post, problemOf, send, serve, type WireAnswer } from '../support/serve.ts';
import { until } from '../support/until.ts';

interface Granted {
  id: string;
  epoch: number;
  attempt: number;
  expires_at: string;
  deadline: string;
  checkpoint: unknown;
  job: { id: string; payload: unknown; priority: number };
}

const leasesIn = (answer: WireAnswer) => (JSON.parse(answer.body) as { leases: Granted[] }).leases;

async function leased(port: number, body: object = {}): Promise<Granted> {
  return leasesIn(await post(port, '/v1/leases', body))[0] as Granted;
}

test('a lease carries all a worker needs, and the payload as it was sent', async () => {
  const { port, jobs } = await serve();
  const payload = '{"n":9007199254740993, "e":1e400,"__proto__":{}}';
  const id = jobs.add({ type: 'mail.send', queue: 'emails', priority: 3, max_attempts: 4 }, payload);
  const answer = await post(port, '/v1/leases', { worker: 'w7', lease_seconds: 60 });
  assert.equal(answer.status, 200);
  const [lease] = leasesIn(answer) as [Granted];
  assert.equal(lease.job.id, id);
  assert.equal(lease.epoch, 1);
  assert.equal(lease.attempt, 1);
  assert.equal(lease.job.priority, 3, 'a priority that marks suspects is not shown');
  assert.ok(Math.abs(Date.parse(lease.expires_at) - Date.now() - 60_000) < 2_000);
  assert.ok(answer.body.includes(`"payload":${payload}`));
});

test('a worker that asks for nothing in particular gets one job under the default lease', async () => {
  const { port, jobs } = await serve({ env: { ERRAND_LEASE_SECONDS: '7' } });
  jobs.add({ type: 'a' });
  jobs.add({ type: 'b' });
  const answer = await send(port, { method: 'POST', path: '/v1/leases' });
  const leases = leasesIn(answer);
  assert.equal(leases.length, 1);
  assert.ok(Math.abs(Date.parse(leases[0]?.expires_at ?? '') - Date.now() - 7_000) < 2_000);
  assert.deepEqual(jobs.calls, ['lease anonymous 0']);
});

test('without work the answer is an empty list: at once, or after the wait', async () => {
  const { port, jobs } = await serve({ env: { ERRAND_WAIT_CAP_SECONDS: '0.3' } });
  assert.deepEqual(leasesIn(await post(port, '/v1/leases', {})), []);
  const began = performance.now();
  const answer = await post(port, '/v1/leases', {}, [['Prefer', 'wait=20']]);
  assert.ok(performance.now() - began >= 299);
  assert.deepEqual(leasesIn(answer), []);
  assert.equal(answer.headers['preference-applied'], 'wait=0.3');
  const waiting = post(port, '/v1/leases', {}, [['Prefer', 'wait=20']]);
  await until(() => jobs.waiters.count === 1, { everyMs: 2 });
  jobs.add({ type: 'a' });
  assert.equal(leasesIn(await waiting).length, 1);
});

test('a worker that would wait where there is no room gets what there is, else 503', async () => {
  const { port, jobs } = await serve({ jobs: new FakeJobs(0) });
  jobs.add({ type: 'a' });
  const wish = ['Prefer', 'wait=5'] as const;
  assert.equal(leasesIn(await post(port, '/v1/leases', {}, [wish])).length, 1);
  const answer = await post(port, '/v1/leases', {}, [wish]);
  assert.equal(answer.status, 503);
  assert.equal(problemOf(answer).code, 'sync-capacity');
  assert.deepEqual(leasesIn(await post(port, '/v1/leases', {})), []);
});

test('a drain sends waiting workers home with an empty list', async () => {
  const { port, jobs } = await serve({ env: { ERRAND_WAIT_CAP_SECONDS: '20' } });
  const waiting = post(port, '/v1/leases', {}, [['Prefer', 'wait=20']]);
  await until(() => jobs.waiters.count === 1, { everyMs: 2 });
  jobs.waiters.drain();
  assert.deepEqual(leasesIn(await waiting), []);
});

test('jobs leased for a worker that has gone meanwhile are given back', async () => {
  const jobs = new FakeJobs();
  const { port } = await serve({ jobs, env: { ERRAND_WAIT_CAP_SECONDS: '20' } });
  const id = jobs.add({ type: 'a' });
  let grant = () => {};
  const granted = new Promise<void>((resolve) => {
    grant = resolve;
  });
  jobs.beforeGrant = () => granted;
  const socket = await open(port);
  socket.write(headOf({ method: 'POST', path: '/v1/leases' }, Buffer.alloc(0)));
  await until(() => jobs.calls.length > 0, { everyMs: 2 });
  socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  grant();
  await until(() => jobs.jobs.get(id)?.facts.epoch === 1 && jobs.jobs.get(id)?.facts.state === 'queued');
});

test('a heartbeat extends the lease from now and carries the wish to stop', async () => {
  let draining = false;
  const { port, jobs } = await serve({ lifecycle: { draining: () => draining, leaving: () => false } });
  jobs.add({ type: 'a' });
  const { id, job } = await leased(port);
  const beat = async (body: object) =>
    JSON.parse((await post(port, `/v1/leases/${id}/heartbeat`, body)).body);
  const first = await beat({ lease_seconds: 90 });
  assert.ok(Math.abs(Date.parse(first.expires_at) - Date.now() - 90_000) < 2_000);
  assert.deepEqual([first.cancel_requested, first.draining], [false, false]);
  await send(port, { method: 'POST', path: `/v1/jobs/${job.id}/cancel` });
  draining = true;
  const second = await beat({});
  assert.ok(Math.abs(Date.parse(second.expires_at) - Date.now() - 30_000) < 2_000);
  assert.deepEqual([second.cancel_requested, second.draining], [true, true]);
});

test('progress and checkpoint are any JSON, kept as it was sent, up to 64 KiB', async () => {
  const { port, jobs } = await serve();
  const id = jobs.add({ type: 'a' });
  const lease = await leased(port);
  assert.equal(lease.checkpoint, null);
  const put = (what: string, body: string, type = 'application/json') =>
    send(port, {
      method: 'PUT',
      path: `/v1/leases/${lease.id}/${what}`,
      headers: [['Content-Type', type]],
      body,
    });
  for (const value of ['{"current":9007199254740993}', '"half"', '0', 'null', '[1e400]']) {
    assert.equal((await put('progress', value)).status, 204, value);
    assert.ok((await get(port, `/v1/jobs/${id}`)).body.includes(`"progress":${value}`), value);
    assert.ok((await get(port, `/v1/jobs/${id}/status`)).body.includes(`"progress":${value}`), value);
  }
  assert.equal((await put('checkpoint', ' {"line" : 7} ')).status, 204);
  await post(port, `/v1/leases/${lease.id}/release`, {});
  assert.ok((await post(port, '/v1/leases', {})).body.includes('"checkpoint":{"line" : 7}'));
  jobs.start(jobs.add({ type: 'b' }));
  for (const what of ['progress', 'checkpoint']) {
    const refused: [number, string, string, string?][] = [
      [409, 'lease-lost', '1'],
      [413, 'payload-too-large', `"${'x'.repeat(65_535)}"`],
      [400, 'malformed-json', '{"a":}'],
      [400, 'malformed-json', '1 2'],
      [400, 'malformed-json', ''],
      [415, 'unsupported-media-type', '1', 'text/plain'],
    ];
    for (const [status, code, body, type] of refused) {
      const answer = await put(what, body, type);
      assert.deepEqual([answer.status, problemOf(answer).code], [status, code], body.slice(0, 20));
    }
  }
});

test('a heartbeat may carry progress', async () => {
  const { port, jobs } = await serve();
  const id = jobs.add({ type: 'a' });
  const lease = await leased(port);
  const beat = (body: string) => post(port, `/v1/leases/${lease.id}/heartbeat`, body);
  assert.equal((await beat('{"progress":{"current": 5}}')).status, 200);
  assert.ok((await get(port, `/v1/jobs/${id}`)).body.includes('"progress":{"current": 5}'));
  const large = await beat(`{"progress":"${'x'.repeat(65_535)}"}`);
  assert.deepEqual([large.status, problemOf(large).code], [413, 'payload-too-large']);
});

const completions: { body: string; result: string | null; created: string | null }[] = [
  { body: '{"result":{"n":9007199254740993}}', result: '{"n":9007199254740993}', created: null },
  { body: '{"result":null}', result: 'null', created: null },
  { body: '{"created":"https://app.example/7"}', result: null, created: 'https://app.example/7' },
  { body: '{"created":"/things/7"}', result: null, created: '/things/7' },
  { body: '{}', result: null, created: null },
  { body: '', result: null, created: null },
];

for (const { body, result, created } of completions) {
  test(`a completion with ${body || 'no body'} ends the job, and says the same when repeated`, async () => {
    const { port, jobs } = await serve();
    jobs.add({ type: 'a' });
    const { id, job } = await leased(port);
    const path = `/v1/leases/${id}/complete`;
    for (let n = 0; n < 2; n++) {
      const answer = body === '' ? await send(port, { method: 'POST', path }) : await post(port, path, body);
      assert.equal(answer.status, 200);
      const record = JSON.parse(answer.body);
      assert.equal(record.id, job.id);
      assert.equal(record.state, 'succeeded');
      assert.equal(record.created, created);
    }
    assert.equal(jobs.jobs.get(job.id)?.result, result);
  });
}

test('what a job created is a URL or a path that no browser takes for a host', async () => {
  const { port, jobs } = await serve();
  jobs.add({ type: 'a' });
  const { id } = await leased(port);
  const wrong = [
    '',
    'x',
    '//evil.example',
    '/\\evil',
    'javascript:1',
    'http://a b',
    '/a\r\nX: y',
    'ftp://a',
    '/ä',
    1,
  ];
  for (const created of wrong) {
    const answer = await post(port, `/v1/leases/${id}/complete`, { created });
    assert.equal(answer.status, 422, String(created));
  }
  assert.equal((await post(port, `/v1/leases/${id}/complete`, { created: '/ok' })).status, 200);
});

test('a failure is retried or the end, by its class', async () => {
  const { port, jobs } = await serve();
  jobs.add({ type: 'a' });
  const first = await leased(port);
  const retried = await post(port, `/v1/leases/${first.id}/fail`, {
    message: 'busy',
    retry_after_seconds: 30,
  });
  assert.equal(retried.status, 200);
  const { state, next_attempt_at } = JSON.parse(retried.body);
  assert.equal(state, 'retrying');
  assert.ok(Math.abs(Date.parse(next_attempt_at) - Date.now() - 30_000) < 2_000);
  jobs.add({ type: 'a' });
  const second = await leased(port);
  const dead = await post(port, `/v1/leases/${second.id}/fail`, {
    class: 'permanent',
    message: 'bad address',
  });
  assert.deepEqual(JSON.parse(dead.body), { id: second.job.id, state: 'dead', next_attempt_at: null });
  for (const wrong of [
    { class: 'timeout' },
    { class: 'lost' },
    { message: 1 },
    { retry_after_seconds: -1 },
  ]) {
    assert.equal((await post(port, `/v1/leases/${first.id}/fail`, wrong)).status, 422, JSON.stringify(wrong));
  }
});

test('a job given back is queued again, at once or later', async () => {
  const { port, jobs } = await serve();
  for (const [delay_seconds, state] of [
    [0, 'queued'],
    [60, 'scheduled'],
  ] as const) {
    jobs.jobs.clear();
    jobs.add({ type: 'a' });
    const { id } = await leased(port);
    const answer = await post(port, `/v1/leases/${id}/release`, { delay_seconds });
    assert.equal(answer.status, 200);
    assert.equal(JSON.parse(answer.body).state, state);
  }
});

test('a lease that does not stand is 409 lease-lost, whatever it is asked and whatever it looks like', async () => {
  const { port, jobs } = await serve();
  jobs.add({ type: 'a' });
  const { id } = await leased(port);
  await post(port, `/v1/leases/${id}/release`, {});
  for (const lease of [id, 'lse_forged', '1', '%20', 'lse_%F0%9F%92%A5', `${id}x`]) {
    for (const verb of ['heartbeat', 'complete', 'fail', 'release']) {
      const answer = await post(port, `/v1/leases/${lease}/${verb}`, {});
      assert.equal(answer.status, 409, `${lease} ${verb}`);
      assert.equal(problemOf(answer).code, 'lease-lost');
    }
  }
});

test('asking for leases wrongly is pointed at', async () => {
  const { port } = await serve();
  const wrong: [string, object][] = [
    ['#/limit', { limit: 0 }],
    ['#/limit', { limit: 1_001 }],
    ['#/lease_seconds', { lease_seconds: 0 }],
    ['#/lease_seconds', { lease_seconds: 3_601 }],
    ['#/types/0', { types: ['A'] }],
    ['#/types/0', { types: ['a*b'] }],
    ['#/queues', { queues: 'emails' }],
    ['#/worker', { worker: 'a\nb' }],
    ['#/name', { name: 'w' }],
  ];
  for (const [pointer, body] of wrong) {
    const answer = await post(port, '/v1/leases', body);
    assert.equal(answer.status, 422, JSON.stringify(body));
    assert.equal((problemOf(answer).errors as { pointer: string }[])[0]?.pointer, pointer);
  }
  const fine = {
    types: ['mail.*', '*', 'a'],
    queues: ['e*'],
    worker: 'host:1:a',
    limit: 1_000,
    lease_seconds: 3_600,
  };
  assert.equal((await post(port, '/v1/leases', fine)).status, 200);
});
