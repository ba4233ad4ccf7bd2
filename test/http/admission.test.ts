// What is taken in at all: more than can be answered in time is refused before it is read, and whoever holds a lease, probes
// and scrapes pass.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, headOf, open, post, problemOf, readAnswer, send, serve } from '../support/serve.ts';
import { until } from '../support/until.ts';

const behind = { least_open: 1, most_open: 1 };

/** A service that holds one submit, which counts as more than it can take. */
async function busy(limits: Parameters<typeof serve>[0] = { limits: behind }) {
  const gate = Promise.withResolvers<void>();
  const served = await serve(limits);
  const entered = Promise.withResolvers<void>();
  served.jobs.beforeStore = () => {
    served.jobs.beforeStore = async () => {};
    entered.resolve();
    return gate.promise;
  };
  const first = post(served.port, '/v1/jobs', { type: 'a' });
  await entered.promise;
  return {
    ...served,
    async letGo() {
      gate.resolve();
      assert.equal((await first).status, 202);
    },
  };
}

const works: [string, string, unknown][] = [
  ['POST', '/v1/jobs', { type: 'a' }],
  ['POST', '/v1/jobs/batch', { jobs: [{ type: 'a' }] }],
  ['POST', '/v1/queues/a/jobs', 'text'],
  ['GET', '/v1/jobs', undefined],
  ['GET', '/v1/jobs/1001/status', undefined],
  ['GET', '/v1/schedules', undefined],
];

for (const [method, path, body] of works) {
  test(`${method} ${path} beyond what can be taken is 503 with Retry-After and stores nothing`, async () => {
    const { port, jobs, observed, letGo } = await busy();
    const stored = jobs.stored;
    const answer = await send(port, {
      method,
      path,
      headers: [
        ['X-Request-Id', 'req-1'],
        ...(body === undefined ? [] : ([['Content-Type', 'application/json']] as const)),
      ],
      body: body === undefined ? '' : JSON.stringify(body),
    });
    assert.equal(answer.status, 503);
    assert.equal(answer.headers['retry-after'], '1');
    assert.equal(answer.headers['x-request-id'], 'req-1');
    const problem = problemOf(answer);
    assert.equal(problem.code, 'queue-saturated');
    assert.equal(problem.request_id, 'req-1');
    assert.equal(problem.retryable, true);
    assert.equal(jobs.stored, stored);
    assert.ok(observed.includes(`${method} refused 503`));
    await letGo();
  });
}

test('leases, probes and scrapes pass while submits are refused', async () => {
  const { port, letGo } = await busy();
  assert.equal((await post(port, '/v1/jobs', { type: 'a' })).status, 503);
  for (const path of ['/health', '/health/live', '/health/ready', '/metrics']) {
    assert.equal((await get(port, path)).status, 200, path);
  }
  assert.equal((await post(port, '/v1/leases', { worker: 'w' })).status, 200);
  for (const verb of ['heartbeat', 'complete', 'fail', 'release']) {
    const { status } = await post(port, `/v1/leases/oops/${verb}`, {});
    assert.notEqual(status, 503, verb);
  }
  await letGo();
});

test('the connection of a refused request is used on, unless a large body may still come', async () => {
  const { port, letGo } = await busy();
  const socket = await open(port);
  const body = Buffer.from('{"type":"a"}');
  const request = {
    method: 'POST',
    path: '/v1/jobs',
    headers: [['Content-Type', 'application/json']] as const,
  };
  for (let n = 0; n < 2; n++) {
    socket.write(Buffer.concat([headOf(request, body), body]));
    const { status, closed } = await readAnswer(socket, 'keep');
    assert.deepEqual([status, closed], [503, false]);
  }
  socket.destroy();
  const large = await post(port, '/v1/jobs', { type: 'a', payload: 'x'.repeat(100_000) });
  assert.deepEqual([large.status, large.headers.connection], [503, 'close']);
  await letGo();
});

test('an upload that waits for its 100 is refused without one', async () => {
  const { port, letGo } = await busy();
  const answer = await send(port, {
    method: 'POST',
    path: '/v1/jobs',
    headers: [
      ['Content-Type', 'application/json'],
      ['Expect', '100-continue'],
    ],
    body: JSON.stringify({ type: 'a', payload: 'x'.repeat(100_000) }),
    awaitsContinue: true,
  });
  assert.deepEqual([answer.status, answer.continued], [503, false]);
  await letGo();
});

test('what is refused is over when there is room again', async () => {
  const { port, letGo } = await busy();
  assert.equal((await post(port, '/v1/jobs', { type: 'a' })).status, 503);
  await letGo();
  await until(async () => (await post(port, '/v1/jobs', { type: 'a' })).status === 202);
});

test('bodies are held up to a number of bytes; those of leases have bytes of their own', async () => {
  const { port, jobs, letGo } = await busy({
    env: { ERRAND_PAYLOAD_LIMIT_BYTES: '1000' },
    limits: { held_bytes: 40 * 1024 * 1024 },
  });
  const uploads: Awaited<ReturnType<typeof open>>[] = [];
  const begin = async (length: number) => {
    const socket = await open(port);
    uploads.push(socket);
    socket.write(
      `POST /v1/jobs/batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n{`,
    );
    return socket;
  };
  for (let n = 0; n < 4; n++) await begin(8 * 1024 * 1024);
  const stored = jobs.stored;
  const last = await begin(8 * 1024 * 1024);
  const refused = await readAnswer(last);
  assert.equal(refused.status, 503);
  assert.equal(problemOf(refused).code, 'queue-saturated');
  assert.equal(jobs.stored, stored);
  assert.equal((await post(port, '/v1/leases/oops/complete', { result: 1 })).status, 409);
  await letGo();
  for (const socket of uploads) socket.destroy();
  const large = { jobs: [{ type: 'a' }] };
  await until(async () => (await post(port, '/v1/jobs/batch', large)).status === 202);
});

test('callers who wait for their job do not count', async () => {
  const { port, jobs } = await serve({ limits: behind });
  const { id } = JSON.parse((await post(port, '/v1/jobs', { type: 'a' })).body);
  const held = get(port, `/v1/jobs/${id}/status`, [['Prefer', 'wait=20']]);
  await until(() => jobs.waiters.count === 1);
  assert.equal((await post(port, '/v1/jobs', { type: 'a' })).status, 202);
  jobs.drain();
  assert.equal((await held).status, 200);
});

test('long turns of the event loop lead to refusals when they last, and not before', async () => {
  const alwaysLong = { turn_ms: -1, answer_ms: 0, least_open: 1 };
  const patient = await busy({ limits: { ...alwaysLong, lasting_ms: 3_600_000 } });
  for (let n = 0; n < 20; n++)
    assert.equal((await post(patient.port, '/v1/jobs', { type: 'a' })).status, 202);
  await patient.letGo();
  const lasting = await busy({ limits: { ...alwaysLong, lasting_ms: 100 } });
  await until(async () => (await post(lasting.port, '/v1/jobs', { type: 'a' })).status === 503);
  await lasting.letGo();
});
