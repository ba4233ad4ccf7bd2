// What probes are told, by a clock of the test: liveness asks no store, readiness waits before it believes in an outage, and
// no number of probes makes a query.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { type Health, type HealthOptions, watchingHealth } from '../../src/telemetry/health.ts';

let now = 0;
let pings = { database: 0, redis: 0 };
let database: 'up' | 'down' = 'up';
let health: Health;

beforeEach(() => {
  now = 0;
  pings = { database: 0, redis: 0 };
  database = 'up';
  mock.timers.enable({ apis: ['setInterval'] });
  mock.method(performance, 'now', () => now);
});
afterEach(() => {
  health.stop();
  mock.timers.reset();
  mock.restoreAll();
});

function watching(over: Partial<HealthOptions> = {}): Health {
  health = watchingHealth({
    holder: 'here:1',
    release: '1',
    async pingDatabase() {
      pings.database++;
      if (database === 'down') throw new Error('it does not answer');
      return { term: '1', holder: 'a', age_ms: 61_400, left_ms: 1_000 };
    },
    pingRedis: async () => ++pings.redis,
    loops: () => ({}),
    draining: () => false,
    started: () => true,
    ...over,
  });
  return health;
}

/** Lets seconds pass, one by one, as timers see them. */
async function pass(seconds: number): Promise<void> {
  for (let n = 0; n < seconds; n++) {
    now += 1_000;
    mock.timers.tick(1_000);
    await settle();
  }
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

test('a thousand probes of each kind a second cost one look at each store a second', async () => {
  const { live, ready, startup, report } = watching();
  await settle();
  for (let second = 0; second < 10; second++) {
    for (let n = 0; n < 1_000; n++) {
      live();
      ready();
      startup();
      await report();
    }
    await pass(1);
  }
  assert.deepEqual(pings, { database: 11, redis: 11 });
});

test('readiness goes ten seconds after the database last answered, and comes back with its first answer', async () => {
  const { live, ready } = watching();
  assert.equal(ready().ok, false, 'ready before the database was ever seen');
  await pass(3);
  assert.deepEqual(ready(), { ok: true });
  database = 'down';
  await pass(9);
  assert.equal(ready().ok, true, 'a blip of the database emptied the service');
  await pass(2);
  assert.equal(ready().ok, false);
  await pass(300);
  assert.deepEqual(live(), { ok: true }, 'restarted for the database');
  database = 'up';
  await pass(1);
  assert.equal(ready().ok, true);
});

test('a drain is the first thing that readiness tells, whatever else is wrong', async () => {
  const { live, ready, startup } = watching({ draining: () => true, started: () => false });
  database = 'down';
  await pass(20);
  assert.deepEqual(ready(), { ok: false, reason: 'draining' });
  assert.deepEqual(startup(), { ok: false, reason: 'starting' });
  assert.deepEqual(live(), { ok: true });
});

test('a process whose event loop stands still for five seconds is not alive', async () => {
  const { live } = watching();
  await pass(1);
  now += 5_500;
  assert.equal(live().ok, true);
  now += 600;
  assert.match(live().reason ?? '', /event loop is 51\d\d ms behind/);
});

test('the report names the leader with term and age, and warns where nobody leads', async () => {
  const checkOf = async (): Promise<unknown> => {
    await settle();
    const { body } = await health.report();
    const [{ time: _, ...check }] = (body as { checks: Record<string, [{ time: string }]> }).checks[
      'dispatcher:leader'
    ] as [{ time: string }];
    return check;
  };
  watching();
  assert.deepEqual(await checkOf(), {
    status: 'pass',
    componentId: 'a',
    observedValue: 'term 1',
    ageSeconds: 61,
  });
  health.stop();
  const over = { term: '1', holder: 'a', age_ms: 90_000, left_ms: -1 };
  watching({ pingDatabase: async () => over });
  const { output, ...ended } = (await checkOf()) as { output: string };
  assert.deepEqual(ended, { status: 'warn', componentId: 'a', observedValue: 'term 1' });
  assert.match(output, /nobody leads/);
});
