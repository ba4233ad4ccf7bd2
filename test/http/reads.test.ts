// Reading and cancelling jobs: the record, the status with its redirect and long poll, the result, conditional requests.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeJobs } from '../support/fake-actions.ts';
import { get, type Header, post, problemOf, send, serve, type WireAnswer } from '../support/serve.ts';
import { until } from '../support/until.ts';

const env = { ERRAND_WAIT_CAP_SECONDS: '5' };
const bodyOf = (answer: WireAnswer) => JSON.parse(answer.body) as Record<string, unknown>;
const noneMatch = (etag: string): Header => ['If-None-Match', etag];
const wait = (seconds: number): Header => ['Prefer', `wait=${seconds}`];

test('a 202, the record and the status tell the same job under the same ETag', async () => {
  const { port } = await serve({ env });
  const stored = await post(port, '/v1/jobs', {
    type: 'mail.send',
    queue: 'emails',
    tags: ['eu'],
    priority: 0,
  });
  const record = await get(port, stored.headers['content-location'] as string);
  assert.equal(record.status, 200);
  const { estimate, ...told } = bodyOf(stored);
  assert.deepEqual(bodyOf(record), told);
  assert.deepEqual(estimate, { seconds: Number(stored.headers['retry-after']), basis: 'age' });
  assert.deepEqual(bodyOf(record).tags, ['eu']);
  const status = await get(port, stored.headers.location as string);
  assert.equal(status.status, 200);
  assert.equal(bodyOf(status).state, 'queued');
  assert.equal(bodyOf(status).terminal, false);
  assert.deepEqual(bodyOf(status).estimate, { seconds: Number(status.headers['retry-after']), basis: 'age' });
  assert.deepEqual(new Set([stored, record, status].map(({ headers }) => headers.etag)).size, 1);
});

test('the record is never stored by caches, status and result only after asking again', async () => {
  const { port, jobs } = await serve({ env });
  const id = jobs.add({ type: 'a', state: 'succeeded' }, 'null', '1');
  const cacheControl = async (path: string) => (await get(port, path)).headers['cache-control'];
  assert.equal(await cacheControl(`/v1/jobs/${id}`), 'no-store');
  assert.equal(await cacheControl(`/v1/jobs/${id}/status`), 'private, no-cache');
  assert.equal(await cacheControl(`/v1/jobs/${id}/result`), 'private, no-cache');
});

test('the payload is shown only when asked for', async () => {
  const { port, jobs } = await serve({ env });
  const id = jobs.add({ type: 'a' }, '{"to":"x"}');
  assert.ok(!('payload' in bodyOf(await get(port, `/v1/jobs/${id}`))));
  assert.deepEqual(bodyOf(await get(port, `/v1/jobs/${id}?include=payload`)).payload, { to: 'x' });
  for (const query of ['include=nope', 'include=payload&include=payload', 'inclde=payload']) {
    const answer = await get(port, `/v1/jobs/${id}?${query}`);
    assert.equal(answer.status, 422, query);
    assert.equal(problemOf(answer).code, 'validation-failed', query);
  }
});

test('an open job says when to ask again, a finished one does not', async () => {
  const { port, jobs } = await serve({ env });
  const queued = jobs.add({ type: 'a' });
  const due = new Date(Date.now() + 600_000);
  const scheduled = jobs.add({ type: 'a', state: 'scheduled', run_at: due, next_at: due });
  const dead = jobs.add({ type: 'a', state: 'dead', class: 'permanent', source: 'worker', error: 'no' });
  const retryAfter = async (id: string) => (await get(port, `/v1/jobs/${id}/status`)).headers['retry-after'];
  assert.equal(await retryAfter(queued), '1');
  assert.ok(Number(await retryAfter(scheduled)) >= 599);
  assert.equal(await retryAfter(dead), undefined);
});

test('the status of a job with a result is 303 to it, with a small body for those who do not follow', async () => {
  const { port, jobs } = await serve({ env });
  const id = jobs.add({ type: 'a', state: 'succeeded', created_uri: '/elsewhere' }, 'null', '[1]');
  const answer = await get(port, `/v1/jobs/${id}/status`);
  assert.equal(answer.status, 303);
  assert.equal(answer.headers.location, `/v1/jobs/${id}/result`);
  assert.equal(bodyOf(answer).result, `/v1/jobs/${id}/result`);
  assert.equal(bodyOf(answer).terminal, true);
});

const createdUris: [string, string | null][] = [
  ['/things/7', '/things/7'],
  ['/', '/'],
  ['https://app.example/things/7', null],
  ['//evil.example/x', null],
  ['/\\evil.example/x', null],
  ['javascript:alert(1)', null],
  ['/a b\r\nSet-Cookie: x=y', '/a%20b%0D%0ASet-Cookie:%20x=y'],
  ['/ä\ud800', '/%C3%A4%EF%BF%BD'],
];

for (const [created, location] of createdUris) {
  test(`the status of a job that created ${JSON.stringify(created)} ${location ? 'leads there' : 'only names it'}`, async () => {
    const { port, jobs } = await serve({ env });
    const id = jobs.add({ type: 'a', state: 'succeeded', created_uri: created });
    const answer = await get(port, `/v1/jobs/${id}/status`);
    assert.equal(answer.status, location === null ? 200 : 303);
    assert.equal(answer.headers.location, location ?? undefined);
    assert.equal(answer.headers['set-cookie'], undefined);
    assert.equal(bodyOf(answer).created, created);
  });
}

test('a job that ended without a result is 200 with its state and error', async () => {
  const { port, jobs } = await serve({ env });
  const dead = { class: 'timeout', source: 'errand', error: 'ran longer than 60 s' } as const;
  const ids = {
    dead: jobs.add({ type: 'a', state: 'dead', epoch: 8, attempt: 8, ...dead }),
    expired: jobs.add({ type: 'a', state: 'expired' }),
    cancelled: jobs.add({ type: 'a', state: 'cancelled' }),
    succeeded: jobs.add({ type: 'a', state: 'succeeded' }),
  };
  for (const [state, id] of Object.entries(ids)) {
    const answer = await get(port, `/v1/jobs/${id}/status`);
    assert.equal(answer.status, 200, state);
    assert.equal(bodyOf(answer).state, state);
    assert.equal(bodyOf(answer).terminal, true, state);
  }
  const { error } = bodyOf(await get(port, `/v1/jobs/${ids.dead}/status`)) as {
    error: Record<string, unknown>;
  };
  assert.equal(error.code, 'job-failed');
  assert.equal(error.status, 504);
  assert.equal(error.class, 'timeout');
});

test('a job that was never there is 404; one that is no longer kept is 410', async () => {
  const { port, jobs } = await serve({ env });
  jobs.gone = 500;
  const answers: [string, number, string][] = [
    ['/v1/jobs/501', 404, 'not-found'],
    ['/v1/jobs/501/status', 404, 'not-found'],
    ['/v1/jobs/501/result', 404, 'not-found'],
    ['/v1/jobs/500', 410, 'job-archived'],
    ['/v1/jobs/500/status', 410, 'job-archived'],
    ['/v1/jobs/500/result', 410, 'result-expired'],
  ];
  for (const [path, status, code] of answers) {
    const answer = await get(port, path);
    assert.equal(answer.status, status, path);
    assert.equal(problemOf(answer).code, code, path);
  }
  for (const [id, status] of [
    ['501', 404],
    ['500', 410],
  ] as const) {
    assert.equal((await send(port, { method: 'POST', path: `/v1/jobs/${id}/cancel` })).status, status);
  }
});

test('the result is the text that was sent; without one it is 204, 404 or 410', async () => {
  const { port, jobs } = await serve({ env });
  const text = '{ "b":1,\t"a":9007199254740993, "c":1e400, "__proto__":"ä\\u0000" }';
  const full = await get(
    port,
    `/v1/jobs/${jobs.add({ type: 'a', state: 'succeeded' }, 'null', text)}/result`,
  );
  assert.equal(full.status, 200);
  assert.equal(full.body, text);
  assert.equal(full.headers['content-type'], 'application/json');
  const uri = 'https://app.example/7';
  const made = jobs.add({ type: 'a', state: 'succeeded', created_uri: uri });
  const none = await get(port, `/v1/jobs/${made}/result`);
  assert.equal(none.status, 204);
  assert.equal(none.headers['content-location'], uri);
  assert.equal(none.body, '');
  const open = await get(port, `/v1/jobs/${jobs.add({ type: 'a' })}/result`);
  assert.equal(open.status, 404);
  assert.equal(problemOf(open).code, 'result-not-ready');
  assert.equal(problemOf(open).retryable, true);
  assert.equal(open.headers['retry-after'], '1');
  const dead = await get(port, `/v1/jobs/${jobs.add({ type: 'a', state: 'dead' })}/result`);
  assert.equal(dead.status, 404);
  assert.equal(problemOf(dead).retryable, false);
  assert.equal(dead.headers['retry-after'], undefined);
});

test('a request that names the present ETag is 304, in every form a client may write it', async () => {
  const { port, jobs } = await serve({ env });
  const open = jobs.add({ type: 'a' });
  const done = jobs.add({ type: 'a', state: 'succeeded' }, 'null', '1');
  const paths = [`/v1/jobs/${open}`, `/v1/jobs/${open}/status`, `/v1/jobs/${done}/result`];
  for (const path of paths) {
    const { etag = '' } = (await get(port, path)).headers;
    for (const value of [etag, `W/${etag}`, `"x", ${etag} , "y"`, '*']) {
      const answer = await get(port, path, [noneMatch(value)]);
      assert.equal(answer.status, 304, `${path} ${value}`);
      assert.equal(answer.headers.etag, etag);
      assert.equal(answer.body, '');
    }
    assert.equal((await get(port, path, [noneMatch('"x"')])).status, 200);
  }
  const status = `/v1/jobs/${done}/status`;
  const { etag = '' } = (await get(port, status)).headers;
  assert.equal(
    (await get(port, status, [noneMatch(etag)])).status,
    303,
    'a condition never hides a redirect',
  );
});

test('a long poll answers as soon as the state changes', async () => {
  const { port, jobs } = await serve({ env });
  const id = jobs.add({ type: 'a' });
  const path = `/v1/jobs/${id}/status`;
  const began = performance.now();
  const first = get(port, path, [wait(3)]);
  await until(() => jobs.waiters.count === 1, { everyMs: 2 });
  jobs.start(id);
  const started = await first;
  assert.equal(started.status, 200);
  assert.equal(bodyOf(started).state, 'running');
  assert.equal(started.headers['preference-applied'], 'wait=3');
  const second = get(port, path, [wait(3), noneMatch(started.headers.etag as string)]);
  await until(() => jobs.waiters.count === 1, { everyMs: 2 });
  jobs.succeed(id, '1');
  assert.equal((await second).status, 303);
  assert.ok(performance.now() - began < 1_500);
});

test('a long poll without a change is 304 for one who knows the state, 200 for one who does not', async () => {
  const { port, jobs } = await serve({ env: { ERRAND_WAIT_CAP_SECONDS: '0.3' } });
  const path = `/v1/jobs/${jobs.add({ type: 'a' })}/status`;
  const { etag = '' } = (await get(port, path)).headers;
  const began = performance.now();
  const known = await get(port, path, [wait(9), noneMatch(etag)]);
  assert.ok(performance.now() - began >= 299);
  assert.equal(known.status, 304);
  assert.equal(known.headers['preference-applied'], 'wait=0.3');
  assert.equal((await get(port, path, [wait(9)])).status, 200);
});

test('a long poll does not wait when there is news already, nothing to come, no room, or a drain', async () => {
  const { port, jobs } = await serve({ env });
  const open = jobs.add({ type: 'a' });
  const done = jobs.add({ type: 'a', state: 'dead' });
  const began = performance.now();
  assert.equal((await get(port, `/v1/jobs/${open}/status`, [wait(5), noneMatch('"old"')])).status, 200);
  assert.equal((await get(port, `/v1/jobs/${done}/status`, [wait(5)])).status, 200);
  const { etag = '' } = (await get(port, `/v1/jobs/${done}/status`)).headers;
  assert.equal((await get(port, `/v1/jobs/${done}/status`, [wait(5), noneMatch(etag)])).status, 304);
  const held = get(port, `/v1/jobs/${open}/status`, [wait(5)]);
  await until(() => jobs.waiters.count === 1, { everyMs: 2 });
  jobs.drain();
  assert.equal((await held).status, 200);
  assert.equal((await get(port, `/v1/jobs/${open}/status`, [wait(5)])).status, 200);
  const full = await serve({ env, jobs: new FakeJobs(0) });
  assert.equal(
    (await get(full.port, `/v1/jobs/${full.jobs.add({ type: 'a' })}/status`, [wait(5)])).status,
    200,
  );
  assert.ok(performance.now() - began < 2_000);
});

test('a cancel is final for a job that has not started, a request for one that runs, refused for one that ended', async () => {
  const { port, jobs } = await serve({ env });
  const cancel = (id: string, headers: Header[] = []) =>
    send(port, { method: 'POST', path: `/v1/jobs/${id}/cancel`, headers });
  const queued = jobs.add({ type: 'a' });
  for (const again of [false, true]) {
    const answer = await cancel(queued);
    assert.equal(answer.status, 200, `again: ${again}`);
    assert.equal(bodyOf(answer).state, 'cancelled');
  }
  const running = jobs.add({ type: 'a' });
  jobs.start(running);
  const asked = await cancel(running);
  assert.equal(asked.status, 202);
  assert.equal(bodyOf(asked).state, 'running');
  assert.equal(bodyOf(asked).cancel_requested, true);
  assert.equal(asked.headers.location, `/v1/jobs/${running}/status`);
  jobs.succeed(running);
  const late = await cancel(running);
  assert.equal(late.status, 409);
  assert.equal(problemOf(late).code, 'job-state-conflict');
  assert.match(
    String(problemOf(late).detail),
    /is succeeded and cannot be cancelled; nothing of it is left to stop$/,
  );
  assert.equal((problemOf(late).job as { state: string }).state, 'succeeded');
});

test('a cancel under If-Match needs the present ETag', async () => {
  const { port, jobs } = await serve({ env });
  const id = jobs.add({ type: 'a' });
  const { etag = '' } = (await get(port, `/v1/jobs/${id}`)).headers;
  const cancel = (value: string) =>
    send(port, { method: 'POST', path: `/v1/jobs/${id}/cancel`, headers: [['If-Match', value]] });
  const stale = await cancel('"old"');
  assert.equal(stale.status, 412);
  assert.equal(problemOf(stale).code, 'precondition-failed');
  assert.equal(stale.headers.etag, etag);
  assert.equal(jobs.jobs.get(id)?.facts.state, 'queued');
  assert.equal((await cancel(etag)).status, 200);
});

test('a cancel takes an empty body or none, and no members', async () => {
  const { port, jobs } = await serve({ env });
  for (const body of ['{}', '{"reason":"x"}']) {
    const answer = await post(port, `/v1/jobs/${jobs.add({ type: 'a' })}/cancel`, body);
    assert.equal(answer.status, body === '{}' ? 200 : 422);
  }
});

test('HEAD answers as GET does, without the body', async () => {
  const { port, jobs } = await serve({ env });
  const id = jobs.add({ type: 'a', state: 'succeeded' }, 'null', '{"a":1}');
  const paths = [
    `/v1/jobs/${id}`,
    `/v1/jobs/${id}/status`,
    `/v1/jobs/${id}/result`,
    '/v1/jobs/9999',
    '/health',
    '/health/live',
    '/metrics',
    '/openapi.json',
    '/problems',
    '/problems/internal',
  ];
  for (const path of paths) {
    const full = await get(port, path);
    const head = await send(port, { method: 'HEAD', path });
    assert.equal(head.status, full.status, path);
    assert.equal(head.body, '', path);
    for (const name of ['content-type', 'content-length', 'etag', 'location', 'cache-control']) {
      if (name === 'content-length' && full.status === 404) continue;
      assert.equal(head.headers[name], full.headers[name], `${path} ${name}`);
    }
  }
});
