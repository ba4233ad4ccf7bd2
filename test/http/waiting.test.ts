// What is decided around a wait: refusals before anything is stored, the drain, callers who go away, and a database that
// cannot be read once the job is stored.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../src/domain/problem.ts';
import { demands, lines, shortWaits } from '../support/decision-tables.ts';
import { FakeJobs } from '../support/fake-actions.ts';
import { headOf, open, post, problemOf, serve } from '../support/serve.ts';
import { until } from '../support/until.ts';

const later = { ERRAND_WAIT_DEFAULT_SECONDS: '20' };

interface Drained {
  asked: string;
  starts: boolean;
  status: number;
  executed?: unknown;
  state: string;
}

const drained: Drained[] = [
  { asked: 'Prefer: wait=20', starts: false, status: 202, state: 'queued' },
  { asked: 'Prefer: wait=20', starts: true, status: 202, state: 'running' },
  ...demands.flatMap((demand): Drained[] => [
    { asked: `Expect: ${demand}`, starts: false, status: 503, executed: false, state: 'cancelled' },
    { asked: `Expect: ${demand}`, starts: true, status: 503, executed: 'in_progress', state: 'running' },
    {
      asked: `Expect: ${demand} | Idempotency-Key: a${demand}`,
      starts: false,
      status: 503,
      executed: 'pending',
      state: 'queued',
    },
    {
      asked: `Expect: ${demand} | Idempotency-Key: b${demand}`,
      starts: true,
      status: 503,
      executed: 'in_progress',
      state: 'running',
    },
  ]),
];

test('a drain during the wait answers every caller at once, by the row for it', async () => {
  const { port, jobs } = await serve({ env: later });
  jobs.scripts.set('runs', (id) => jobs.start(id));
  const waiting = drained.map(({ asked, starts }) =>
    post(port, '/v1/jobs', { type: starts ? 'runs' : 'never' }, lines(asked)),
  );
  await until(() => jobs.waiters.count === drained.length);
  jobs.waiters.drain();
  for (const [i, answer] of (await Promise.all(waiting)).entries()) {
    const row = drained[i] as Drained;
    const what = `${row.asked}, ${row.starts ? 'running' : 'not started'}`;
    const id = answer.headers['errand-job-id'] as string;
    assert.equal(answer.status, row.status, what);
    assert.equal(jobs.jobs.get(id)?.facts.state, row.state, what);
    assert.equal(answer.headers.location, row.executed === false ? undefined : `/v1/jobs/${id}/status`, what);
    if (row.status === 202) continue;
    const problem = problemOf(answer);
    assert.equal(problem.code, 'draining', what);
    assert.deepEqual(problem.executed, row.executed, what);
    assert.equal(answer.headers['retry-after'], '1', what);
  }
});

test('a draining server refuses demands before anything is stored, and takes the rest', async () => {
  const { port, jobs } = await serve({ env: shortWaits });
  jobs.waiters.drain();
  const demand = await post(port, '/v1/jobs', { type: 'a' }, [['Expect', '200-ok']]);
  assert.equal(problemOf(demand).code, 'draining');
  assert.equal(demand.status, 503);
  assert.equal(demand.headers['retry-after'], '1');
  assert.equal(jobs.stored, 0);
  assert.equal((await post(port, '/v1/jobs', { type: 'a' }, [['Prefer', 'wait=1']])).status, 202);
  assert.equal((await post(port, '/v1/jobs', { type: 'a' })).status, 202);
  assert.equal(jobs.stored, 2);
});

test('a demand for which there is no room to wait is 503 before anything is stored; a wish gets its 202', async () => {
  const { port, jobs } = await serve({ env: shortWaits, jobs: new FakeJobs(1) });
  const first = post(port, '/v1/jobs', { type: 'a' }, [['Prefer', 'wait=1']]);
  await until(() => jobs.waiters.count === 1, { everyMs: 2 });
  const demand = await post(port, '/v1/jobs', { type: 'a' }, [['Expect', '201-created']]);
  assert.equal(problemOf(demand).code, 'sync-capacity');
  assert.equal(demand.status, 503);
  assert.ok(Number(demand.headers['retry-after']) >= 1);
  assert.equal(jobs.stored, 1);
  assert.equal((await post(port, '/v1/jobs', { type: 'a' }, [['Prefer', 'wait=1']])).status, 202);
  assert.equal((await first).status, 202);
});

test('a demand for a job that is due after the wait is refused up front; nothing is stored', async () => {
  const { port, jobs } = await serve({ env: shortWaits });
  const bodies = [
    { type: 'a', delay_seconds: 0.8 },
    { type: 'a', run_at: new Date(Date.now() + 60_000).toISOString() },
    { type: 'a', run_at: '9999-12-31T23:59:59Z' },
  ];
  for (const body of bodies) {
    for (const demand of demands) {
      const answer = await post(port, '/v1/jobs', body, [['Expect', demand]]);
      const problem = problemOf(answer);
      assert.equal(answer.status, 417);
      assert.equal(problem.code, 'expectation-impossible');
      assert.equal(problem.reason, 'run_at_beyond_wait');
      assert.equal(answer.headers['errand-mode'], 'refused');
    }
    assert.equal((await post(port, '/v1/jobs', body, [['Expect', '202-accepted']])).status, 202);
  }
  assert.equal(jobs.stored, bodies.length);
});

test('a demand for a job that is due within the wait, or was due, is not refused', async () => {
  const { port, jobs } = await serve({ env: shortWaits });
  jobs.scripts.set('quick', (id) => setTimeout(() => jobs.succeed(id), 150));
  const due = [{ delay_seconds: 0.1 }, { run_at: '1970-01-01T00:00:00Z' }];
  for (const when of due) {
    const answer = await post(port, '/v1/jobs', { type: 'quick', ...when }, [['Expect', '204-no-content']]);
    assert.equal(answer.status, 204);
  }
});

test('a caller who goes away frees its place, and its job is left alone', async () => {
  const { port, jobs, observed } = await serve({ env: later });
  for (const asked of ['Prefer: wait=20', 'Expect: 200-ok']) {
    for (const how of ['destroy', 'end'] as const) {
      const socket = await open(port);
      const body = Buffer.from('{"type":"never"}');
      const head = {
        method: 'POST',
        path: '/v1/jobs',
        headers: lines(`Content-Type: application/json | ${asked}`),
      };
      socket.write(Buffer.concat([headOf(head, body), body]));
      await until(() => jobs.waiters.count === 1, { everyMs: 2 });
      socket[how]();
      await until(() => jobs.waiters.count === 0, { timeoutMs: 500, everyMs: 2 });
    }
  }
  assert.ok([...jobs.jobs.values()].every(({ facts }) => facts.state === 'queued'));
  assert.ok(!jobs.calls.some((call) => call.startsWith('cancel')));
  assert.deepEqual(observed, [], 'what nobody was answered is no answer');
});

test('a caller who goes away while its job is being stored is not waited for', async () => {
  const { app, port, jobs } = await serve({ env: later });
  const gone = new Promise<void>((resolve) => {
    app.server.once('connection', (socket) => socket.once('close', () => resolve()));
  });
  jobs.beforeStore = () => gone;
  const socket = await open(port);
  const body = Buffer.from('{"type":"never"}');
  const headers = lines('Content-Type: application/json | Expect: 200-ok');
  socket.write(Buffer.concat([headOf({ method: 'POST', path: '/v1/jobs', headers }, body), body]));
  await until(() => jobs.calls.includes('submit'), { everyMs: 2 });
  socket.destroy();
  await until(() => jobs.stored === 1 && jobs.waiters.count === 0, { timeoutMs: 500, everyMs: 2 });
  assert.ok(!jobs.calls.some((call) => call.startsWith('cancel')));
});

test('a failure to read the job after it was stored is never told as if nothing was stored', async () => {
  const { port, jobs } = await serve({ env: shortWaits });
  jobs.scripts.set('fails', () => {
    jobs.fault = new Problem('database-unavailable', { detail: 'the database did not answer in time' });
  });
  const answer = await post(port, '/v1/jobs', { type: 'fails' }, [['Expect', '200-ok']]);
  const problem = problemOf(answer);
  assert.equal(answer.status, 503);
  assert.equal(problem.code, 'outcome-unknown');
  assert.match(problem.detail as string, /is stored/);
  assert.equal(answer.headers.location, `/v1/jobs/${answer.headers['errand-job-id']}/status`);
});

test('a replay on a job that is no longer kept is 410', async () => {
  const { port, jobs } = await serve({ env: shortWaits });
  await post(port, '/v1/jobs', { type: 'a' }, [['Idempotency-Key', 'k']]);
  jobs.jobs.clear();
  jobs.gone = 2_000;
  for (const asked of [
    'Idempotency-Key: k',
    'Idempotency-Key: k | Expect: 200-ok',
    'Idempotency-Key: k | Prefer: wait=1',
  ]) {
    const answer = await post(port, '/v1/jobs', { type: 'a' }, lines(asked));
    assert.equal(answer.status, 410, asked);
    assert.equal(problemOf(answer).code, 'job-archived', asked);
  }
});
