// What happens to connections: curl and its 417, uploads that are refused early, slow and silent clients, and a server
// that closes.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { api } from '../../src/roles/api.ts';
import { curl } from '../support/curl.ts';
import { shortWaits } from '../support/decision-tables.ts';
import { get, headOf, open, post, problemOf, readAnswer, send, serve } from '../support/serve.ts';
import { until } from '../support/until.ts';

const json = ['-H', 'Content-Type: application/json', '--data-binary', '@-'];
const large = Buffer.from(`{"type":"a","payload":"${'x'.repeat(3_000_000)}"}`);
const roomy = { ...shortWaits, ERRAND_PAYLOAD_LIMIT_BYTES: '4000000' };

const hasty = {
  limits: { headers_timeout_ms: 250, request_timeout_ms: 500, check_interval_ms: 50, keep_alive_ms: 5_000 },
};
// One for all who are slow: the time that others took to be built would count as theirs.
const short = await serve(hasty);

const curled: { expect: string; body?: Buffer; status: number; type?: string }[] = [
  { expect: '200-ok', status: 200, type: 'quick' },
  { expect: '200-ok', status: 417 },
  { expect: '100-continue, 200-ok', status: 200, type: 'quick' },
  { expect: '100-continue, 200-ok', status: 417 },
  { expect: 'bogus', status: 417 },
  { expect: '100-continue, bogus', status: 417 },
  { expect: 'bogus', body: large, status: 417 },
  { expect: '100-continue, bogus', body: large, status: 417 },
  { expect: '100-continue, 202-accepted', body: large, status: 202 },
];

for (const { expect, body, status, type = 'never' } of curled) {
  const size = body === undefined ? '' : ' and 3 MB';
  test(`curl with "Expect: ${expect}"${size} makes one request and sees ${status}`, async () => {
    const { port, jobs, observed } = await serve({ env: roomy });
    jobs.scripts.set('quick', (id) => setTimeout(() => jobs.succeed(id, '1'), 20));
    const args = [...json, '-H', `Expect: ${expect}`];
    const answer = await curl(`http://127.0.0.1:${port}/v1/jobs`, args, body ?? `{"type":"${type}"}`);
    assert.equal(answer.status, status);
    assert.equal(answer.exit, 0);
    await until(() => observed.length > 0);
    await pause(30);
    assert.deepEqual(observed, [`POST /v1/jobs ${status}`]);
  });
}

test('a 3 MB upload that waits for its 100 is refused after a few hundred bytes', async () => {
  const { app, port } = await serve({ env: roomy });
  const sockets: Socket[] = [];
  app.server.on('connection', (socket) => sockets.push(socket));
  const answer = await send(port, {
    method: 'POST',
    path: '/v1/jobs',
    headers: [
      ['Content-Type', 'application/json'],
      ['Expect', '100-continue, bogus'],
    ],
    body: large,
    awaitsContinue: true,
  });
  assert.equal(answer.status, 417);
  assert.equal(answer.continued, false);
  assert.equal(answer.closed, true);
  assert.ok((sockets[0] as Socket).bytesRead < 300, `${sockets[0]?.bytesRead} bytes were read`);
});

const slow: { who: string; first: string; drip: string }[] = [
  { who: 'says nothing', first: '', drip: '' },
  { who: 'stops in the headers', first: 'POST /v1/jobs HTTP/1.1\r\nHost: a\r\nX-A: ', drip: '' },
  { who: 'drips headers', first: 'POST /v1/jobs HTTP/1.1\r\nHost: a\r\nX-A: ', drip: 'a' },
  {
    who: 'stops in the body',
    first:
      'POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"type"',
    drip: '',
  },
  {
    who: 'drips the body',
    first:
      'POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"type"',
    drip: ' ',
  },
  {
    who: 'sends chunks without end',
    first:
      'POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n',
    drip: '1\r\n \r\n',
  },
];

describe('time limits', { concurrency: true }, () => {
  for (const { who, first, drip } of slow) {
    test(`a client that ${who} gets 408 and is cut`, async () => {
      const { port, jobs, errors } = short;
      const socket = await open(port);
      const began = performance.now();
      socket.write(first);
      const dripping = setInterval(() => socket.write(drip), 20);
      const answer = await readAnswer(socket);
      clearInterval(dripping);
      const took = performance.now() - began;
      assert.equal(answer.status, 408);
      assert.equal(problemOf(answer).code, 'request-timeout');
      assert.equal(answer.headers.connection, 'close');
      assert.equal(answer.closed, true);
      assert.ok(took < 2_500, `it took ${Math.round(took)} ms`);
      assert.equal(jobs.stored, 0);
      assert.deepEqual(errors, []);
    });
  }

  test('a caller who waits longer than a request may take to arrive is not cut', async () => {
    const { port } = await serve({ ...hasty, env: { ERRAND_WAIT_CAP_SECONDS: '1.2' } });
    const began = performance.now();
    const answer = await post(port, '/v1/jobs', { type: 'never' }, [['Prefer', 'wait=2']]);
    assert.equal(answer.status, 202);
    assert.ok(performance.now() - began >= 1_200);
  });

  test('a connection that rests between requests is kept', async () => {
    const { port } = await serve(hasty);
    const socket = await open(port);
    for (let n = 0; n < 2; n++) {
      socket.write('GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n');
      assert.equal((await readAnswer(socket, 'keep')).status, 200);
      await pause(700);
    }
    socket.destroy();
  });
});

test('rubbish behind a request that waits is not answered in its place', async () => {
  const { port, jobs } = await serve({ env: { ERRAND_WAIT_CAP_SECONDS: '20' } });
  const body = Buffer.from('{"type":"never"}');
  const head = headOf(
    {
      method: 'POST',
      path: '/v1/jobs',
      headers: [
        ['Content-Type', 'application/json'],
        ['Prefer', 'wait=20'],
      ],
    },
    body,
  );
  const socket = await open(port);
  socket.write(Buffer.concat([head, body]));
  await until(() => jobs.waiters.count === 1);
  const received: Buffer[] = [];
  socket.on('data', (chunk) => received.push(chunk));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write('\0\0rubbish\r\n\r\n');
  await closed;
  assert.equal(Buffer.concat(received).toString(), '');
  await until(() => jobs.waiters.count === 0);
});

test('several requests on one connection are answered in order', async () => {
  const { port } = await serve();
  const socket = await open(port);
  const paths = ['/health/live', '/nowhere', '/v1/leases', '/problems/internal'];
  socket.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''));
  const statuses: number[] = [];
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
    statuses.splice(0, 9, ...[...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status)));
  });
  await until(() => statuses.length === 4);
  assert.deepEqual(statuses, [200, 404, 405, 200]);
  socket.destroy();
});

test('more connections than allowed are turned away, and the rest is served', async () => {
  const { port } = await serve({ limits: { max_connections: 3 } });
  const idle = await Promise.all([open(port), open(port), open(port)]);
  const surplus = await open(port);
  await new Promise((resolve) => surplus.once('close', resolve));
  (idle[0] as Socket).write('GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n');
  assert.equal((await readAnswer(idle[0] as Socket, 'keep')).status, 200);
  for (const socket of idle) socket.destroy();
});

test('a server that closes answers 100 waiting callers at once and closes their connections', async () => {
  const { app, port, jobs } = await serve({ env: { ERRAND_WAIT_DEFAULT_SECONDS: '20' } });
  const waiting = Array.from({ length: 100 }, (_, i) =>
    post(port, '/v1/jobs', { type: 'never' }, [i % 2 ? ['Expect', '200-ok'] : ['Prefer', 'wait=20']]),
  );
  await until(() => jobs.waiters.count === 100);
  const began = performance.now();
  const closed = app.close();
  const answers = await Promise.all(waiting);
  await closed;
  assert.ok(performance.now() - began < 2_000);
  assert.deepEqual([...new Set(answers.map(({ status }) => status))].sort(), [202, 503]);
  assert.ok(answers.every((answer) => answer.closed && answer.headers.connection === 'close'));
});

test('a request that arrives while the server closes is 503 draining', async () => {
  const { app, port } = await serve();
  const arrived = once(app.server, 'connection');
  const socket = await open(port);
  socket.write('POST /v1/jobs HTTP/1.1\r\nHost: a\r\n');
  const [accepted] = (await arrived) as [Socket];
  await until(() => accepted.bytesRead > 0);
  const closed = app.close();
  await pause(50);
  const rest = 'Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{"type":"a"}';
  socket.write(rest);
  const answer = await readAnswer(socket);
  assert.equal(answer.status, 503);
  assert.equal(problemOf(answer).code, 'draining');
  assert.equal(answer.headers['retry-after'], '1');
  assert.equal(answer.headers.connection, 'close');
  await closed;
});

test('what was asked before the close is answered, although the connection was to be kept', async () => {
  let finish = () => {};
  const report = new Promise<{ ok: boolean; body: object }>((resolve) => {
    finish = () => resolve({ ok: true, body: { status: 'pass' } });
  });
  const health = { live: () => ({ ok: true }), ready: () => ({ ok: true }), startup: () => ({ ok: true }) };
  const asked = Promise.withResolvers<void>();
  const reporting = () => {
    asked.resolve();
    return report;
  };
  const { app, port } = await serve({ health: { ...health, report: reporting } });
  const answer = get(port, '/health');
  await asked.promise;
  const closed = app.close();
  await pause(50);
  finish();
  assert.equal((await answer).status, 200);
  assert.equal((await answer).headers.connection, 'close');
  await closed;
});

for (const headers of [[], [['Expect', '202-accepted']], [['Expect', '100-continue']]] as const) {
  const how = headers[0]?.join(': ') ?? 'no expectation';
  test(`a submit (${how}) whose commit takes long is answered while the server stops`, async () => {
    const { app, port, jobs } = await serve();
    const door = api(app, '127.0.0.1', 0);
    const entered = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    jobs.beforeStore = () => {
      entered.resolve();
      return gate.promise;
    };
    const answer = post(port, '/v1/jobs', { type: 'a' }, headers).catch(() => ({ status: 'cut' }));
    await entered.promise;
    const stopped = door.stop(performance.now() + 20_000);
    // Longer than a request that has not come as a whole may take.
    await pause(1_500);
    gate.resolve();
    assert.equal((await answer).status, 202);
    await stopped;
  });
}
