// Why this room exists: a wait that fails badly hides what the test was about.
// Next room: test/support/until.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { neutralEnvironment } from '../support/process.ts';
import { until } from '../support/until.ts';

test('until returns the first truthy answer and takes errors as not yet', async () => {
  let calls = 0;
  const answer = await until(
    () => {
      calls++;
      if (calls === 1) throw new Error('connection refused');
      return calls > 2 && 'ready';
    },
    { everyMs: 1 },
  );
  assert.equal(answer, 'ready');
  assert.equal(calls, 3);
});

test('until says what it waited for and what it saw last', async () => {
  await assert.rejects(
    until(() => Promise.reject(new Error('connection refused')), {
      timeoutMs: 10,
      everyMs: 1,
      what: 'the port answers',
    }),
    /not true within 10 ms: the port answers; last seen: connection refused/,
  );
});

test('until gives up on a predicate that never answers', async () => {
  await assert.rejects(
    until(() => new Promise(() => {}), { timeoutMs: 10, what: 'never' }),
    /not true within 10 ms: never; last seen: the predicate itself did not answer/,
  );
});

test('a service under test inherits no setting of errand, Postgres or the test runner', () => {
  const env = neutralEnvironment({
    PATH: '/bin',
    ERRAND_ROLES: 'api',
    DATABASE_URL: 'x',
    REDIS_URL: 'y',
    PGPORT: '1',
    PORT: '2',
    NODE_TEST_CONTEXT: 'child-v8',
  });
  assert.deepEqual(env, { PATH: '/bin' });
});
