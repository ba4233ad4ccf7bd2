// What surrounds the jobs: request ids and headers, probes, metrics, and the pages that explain.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { problemIndex, problemPage, problemSlugs } from '../../src/domain/problems.ts';
import { openapiDocument } from '../../src/http/openapi.ts';
import { get, post, problemOf, send, serve } from '../support/serve.ts';

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test('a request keeps the id it brings, and gets one where it brings none that can be kept', async () => {
  const { port } = await serve();
  const idOf = async (given: string) =>
    (await get(port, '/health/live', [['X-Request-Id', given]])).headers['x-request-id'];
  for (const kept of ['a', 'A-z_0.9', 'x'.repeat(64)]) assert.equal(await idOf(kept), kept);
  for (const other of ['', 'a b', 'x'.repeat(65), 'a,b', 'ä', '<script>']) {
    assert.match((await idOf(other)) as string, uuid, other);
  }
});

test('every answer carries the id of its request, also a refusal and an answer without a body', async () => {
  const { port } = await serve();
  const id = [['X-Request-Id', 'req-1']] as const;
  const answers = [
    await post(port, '/v1/jobs', { type: 'a' }, id),
    await post(port, '/v1/jobs', '{', id),
    await get(port, '/nowhere', id),
    await get(port, '/v1/jobs', id),
    await get(port, '/v1/jobs/%zz', id),
    await send(port, { method: 'OPTIONS', path: '/v1/jobs', headers: id }),
    await post(port, '/v1/jobs', {}, [...id, ['Expect', 'bogus']]),
  ];
  for (const { status, headers } of answers) {
    assert.equal(headers['x-request-id'], 'req-1', String(status));
    assert.equal(headers['x-content-type-options'], 'nosniff', String(status));
    assert.equal(headers['cache-control'], 'no-store', String(status));
    assert.ok(Date.parse(headers.date as string) > 0, String(status));
  }
});

test('metrics are told the template of a route, never a path or an id', async () => {
  const { port, observed } = await serve();
  await post(port, '/v1/jobs', { type: 'a' });
  await get(port, '/v1/jobs/1001/status?x=y');
  await get(port, '/v1/jobs/oops');
  await get(port, '/secret/path');
  await send(port, { method: 'DELETE', path: '/v1/jobs/1001' });
  await send(port, { method: 'HEAD', path: '/health' });
  assert.deepEqual(observed, [
    'POST /v1/jobs 202',
    'GET /v1/jobs/:id/status 200',
    'GET /v1/jobs/:id 404',
    'GET unrouted 404',
    'DELETE unrouted 405',
    'HEAD /health 200',
  ]);
});

test('the metrics are served as the registry writes them', async () => {
  const { port } = await serve();
  const answer = await get(port, '/metrics');
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  assert.match(answer.body, /^# HELP errand_/);
});

test('a probe is 200 or 503 by what it finds, as application/health+json', async () => {
  const answer = { ok: true as boolean, reason: undefined as string | undefined };
  const probe = () =>
    answer.reason === undefined ? { ok: answer.ok } : { ok: answer.ok, reason: answer.reason };
  const { port } = await serve({
    health: {
      live: probe,
      ready: async () => probe(),
      startup: probe,
      report: async () => ({ ok: answer.ok, body: { status: answer.ok ? 'warn' : 'fail', checks: {} } }),
    },
  });
  const paths = ['/health/live', '/health/ready', '/health/startup', '/health'];
  for (const [ok, reason] of [
    [true, undefined],
    [false, 'draining'],
  ] as const) {
    Object.assign(answer, { ok, reason });
    for (const path of paths) {
      const { status, headers, body } = await get(port, path);
      assert.equal(status, ok ? 200 : 503, path);
      assert.equal(headers['content-type'], 'application/health+json', path);
      const report = JSON.parse(body);
      assert.equal(report.status, ok ? (path === '/health' ? 'warn' : 'pass') : 'fail', path);
      if (path !== '/health') assert.equal(report.output, reason, path);
    }
  }
});

test('a probe that throws is 500, not silence', async () => {
  const broken = () => {
    throw new Error('probe');
  };
  const { port, errors } = await serve({
    health: { live: broken, ready: broken, startup: broken, report: broken },
  });
  assert.equal(problemOf(await get(port, '/health/live')).code, 'internal');
  assert.equal(errors.length, 1);
});

test('the document is served as it is printed, and may be kept for a while', async () => {
  const { port } = await serve();
  const answer = await get(port, '/openapi.json');
  assert.equal(answer.headers['content-type'], 'application/json');
  assert.equal(answer.headers['cache-control'], 'public, max-age=300');
  assert.deepEqual(JSON.parse(answer.body), await openapiDocument());
});

test('every problem has a page where its type says, and the index leads to all of them', async () => {
  const { port } = await serve();
  const index = await get(port, '/problems');
  assert.equal(index.headers['content-type'], 'text/markdown; charset=utf-8');
  for (const slug of problemSlugs()) {
    assert.ok(index.body.includes(`](/problems/${slug})`), slug);
    const page = await get(port, `/problems/${slug}`);
    assert.equal(page.status, 200, slug);
    assert.equal(page.body, problemPage(slug), slug);
  }
  assert.ok(problemIndex().split('\n').length === index.body.split('\n').length);
  const unknown = await get(port, '/problems/hasOwnProperty');
  assert.equal(problemOf(unknown).code, 'not-found');
});
