// The virtual clock: long times in no time, by POST /test/clock. What has fallen due is looked at right after the answer:
// nothing here polls for it.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { TestClock } from '../../src/actions/test-clock.ts';
import type { Db } from '../../src/store/db.ts';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

const inTestMode = { ERRAND_TEST_CLOCK: 'true', ERRAND_LEASE_SECONDS: '900' };

let errand: TestErrand;
const call = calling(() => errand.url);

before(async () => {
  errand = await startErrand({ env: inTestMode });
});

after(() => errand.stop());

async function submit(job: object): Promise<string> {
  const { status, json } = await call.post('/v1/jobs', job);
  assert.equal(status, 202);
  return json.id;
}

async function move(change: object): Promise<{ now: string; frozen: boolean }> {
  const { status, json } = await call.post('/test/clock', change);
  assert.equal(status, 200, JSON.stringify(json));
  assert.equal(json.chores_done, true);
  return json;
}

const forward = (advance_seconds: number) => move({ advance_seconds });

async function state(id: string): Promise<string> {
  return (await call.get(`/v1/jobs/${id}`)).json.state;
}

async function lease(type: string): Promise<string> {
  const { json } = await call.post('/v1/leases', { worker: 'w', types: [type], lease_seconds: 900 });
  return json.leases[0].id;
}

const hours = (n: number) => n * 3_600;

const hourly = {
  ...{
    cron: null,
    timezone: 'UTC',
    every_seconds: hours(1),
    jitter_seconds: 0,
    starts_at: null,
    ends_at: null,
  },
  ...{ misfire: 'skip', max_lateness_seconds: 300, max_catch_up: 1, overlap: 'allow' },
  job: { queue: 'default', type: 'hourly', priority: 5, max_attempts: 1, timeout_seconds: 60 },
};

test('a job delayed by an hour is ready after that hour, not before', async () => {
  const id = await submit({ type: 'hour', delay_seconds: hours(1) });
  await forward(hours(1) - 60);
  assert.equal(await state(id), 'scheduled');
  await forward(61);
  assert.equal(await state(id), 'queued');
});

test('more jobs than one run of a chore can move are all ready at once', async () => {
  const jobs = Array.from({ length: 1_000 }, () => ({ type: 'crowd', delay_seconds: hours(1) }));
  const { json } = await call.post('/v1/jobs/batch', { jobs });
  await forward(hours(2));
  const { leases } = (await call.post('/v1/leases', { worker: 'w', types: ['crowd'], limit: 1_000 })).json;
  assert.equal(leases.length, json.jobs.length);
});

test('a job waits out its backoff of 900 s', async () => {
  const backoff = { strategy: 'fixed', base_seconds: 900, cap_seconds: 900, jitter: 'none' };
  const id = await submit({ type: 'backoff', backoff });
  const failed = await call.post(`/v1/leases/${await lease('backoff')}/fail`, { message: 'later' });
  assert.equal(failed.status, 200);
  await forward(840);
  assert.equal(await state(id), 'retrying');
  await forward(61);
  assert.equal(await state(id), 'queued');
});

test('a lease of a quarter of an hour stands for that long, and its job is taken up afterwards', async () => {
  const id = await submit({ type: 'leased', timeout_seconds: 7_200 });
  const held = await lease('leased');
  await forward(840);
  assert.equal(await state(id), 'running');
  await forward(61);
  assert.equal(await state(id), 'queued');
  const late = await call.post(`/v1/leases/${held}/complete`, { result: 1 });
  assert.equal(late.json.code, 'lease-lost');
});

test('an attempt that runs into its deadline while the clock moves is over', async () => {
  const id = await submit({ type: 'slow', timeout_seconds: 60, max_attempts: 1 });
  await lease('slow');
  await forward(70);
  const { json } = await call.get(`/v1/jobs/${id}`);
  assert.deepEqual([json.state, json.error.class], ['dead', 'timeout']);
});

test('a job expires after three days', async () => {
  const { now } = await forward(0);
  const expires_at = new Date(Date.parse(now) + 3 * hours(24) * 1_000).toISOString();
  const id = await submit({ type: 'nobody', expires_at });
  await forward(3 * hours(24) - 60);
  assert.equal(await state(id), 'queued');
  await forward(61);
  assert.equal(await state(id), 'expired');
});

test('what a process computes itself follows the clock as well', async () => {
  const now = Date.parse((await forward(hours(24))).now);
  const soon = new Date(now + 60_000).toISOString();
  const impossible = await call.post('/v1/jobs', { type: 'x', run_at: soon }, { 'errand-expect': '200-ok' });
  assert.equal(impossible.json.code, 'expectation-impossible');
  assert.match(impossible.json.detail, /due in (59|60) s/);
  const id = await submit({ type: 'x', run_at: soon });
  const wait = Number((await call.get(`/v1/jobs/${id}/status`)).headers.get('retry-after'));
  assert.ok(wait >= 50 && wait <= 75, `Retry-After: ${wait}`);
  const preview = await call.post('/v1/jobs/validate', { type: 'x', run_at: soon });
  assert.equal(preview.json.job.state, 'scheduled');
});

describe('a clock that stands still', () => {
  before(() => move({ frozen: true }));
  after(() => move({ frozen: false }));

  test('shows the same until it is moved, and then exactly what was asked for', async () => {
    const { now } = (await call.get('/test/clock')).json;
    const id = await submit({ type: 'x' });
    assert.equal((await call.get(`/v1/jobs/${id}`)).json.created_at, now);
    assert.deepEqual((await call.get('/test/clock')).json, { now, frozen: true });
    assert.equal((await move({ now })).now, now, 'it may go to where it is');
    const later = new Date(Date.parse(now) + 1_500).toISOString();
    assert.equal((await forward(1.5)).now, later);
    assert.deepEqual((await call.get('/test/clock')).json, { now: later, frozen: true });
    const newYear = '2061-01-01T00:00:00.000Z';
    assert.equal((await move({ now: '2061-01-01T01:00:00+01:00' })).now, newYear);
    assert.equal((await call.get('/test/clock')).json.now, newYear);
  });

  test('lets nothing fall due by waiting', async () => {
    const id = await submit({ type: 'x', delay_seconds: 0.002 });
    const promoted = () => errand.next('chore.ran', ({ chore }) => chore === 'promote');
    await promoted();
    await promoted();
    assert.equal(await state(id), 'scheduled');
    await forward(0.002);
    assert.equal(await state(id), 'queued');
  });

  test('loses no move when many come at once', async () => {
    const before = Date.parse((await call.get('/test/clock')).json.now);
    await Promise.all(Array.from({ length: 20 }, () => forward(10)));
    assert.equal(Date.parse((await call.get('/test/clock')).json.now), before + 200_000);
  });

  test('goes on from where it stood', async () => {
    const stood = Date.parse((await call.get('/test/clock')).json.now);
    const { now, frozen } = await move({ frozen: false });
    assert.equal(frozen, false);
    assert.equal(Date.parse(now), stood);
    const later = await until(async () => {
      const shown = Date.parse((await call.get('/test/clock')).json.now);
      return shown > stood ? shown : undefined;
    });
    assert.ok(later < stood + 60_000);
  });
});

test('a slot of a schedule is fired by the move that makes it due, with nothing late about it', async () => {
  const leader = await startErrand({ env: inTestMode });
  const database = new pg.Client({ connectionString: leader.databaseUrl });
  try {
    const ask = calling(() => leader.url);
    await leader.next('chore.ran', ({ chore }) => chore === 'fire');
    await ask.post('/test/clock', { now: '2061-03-27T00:30:00Z', frozen: true });
    await database.connect();
    await database.query(
      `insert into errand.schedule (name, definition, payload, watermark, next_slot, next_due)
       select 'hourly', $1, '{}', errand.now(), slot, slot from (select errand.now() + interval '30 min' slot) s`,
      [hourly],
    );
    const fired = async () => (await ask.get('/v1/jobs?type=hourly')).json.items.length;
    await ask.post('/test/clock', { advance_seconds: 1_799 });
    assert.equal(await fired(), 0);
    for (const n of [1, 2, 3]) {
      const to = `2061-03-27T0${n}:00:00Z`;
      assert.equal((await ask.post('/test/clock', { now: to })).json.chores_done, true);
      assert.equal(await fired(), n);
    }
    const { rows } = await database.query(
      'select distinct outcome, decided_at - slot = interval \'0\' "exact" from errand.slot',
    );
    assert.deepEqual(rows, [{ outcome: 'on_time', exact: true }]);
  } finally {
    await database.end();
    await leader.stop();
  }
});

test('a move that makes no sense is refused, and the clock goes on as before', async () => {
  const refused: [unknown, string][] = [
    [{}, '#'],
    [{ advance_seconds: -1 }, '#/advance_seconds'],
    [{ advance_seconds: 1e12 }, '#/advance_seconds'],
    [{ advance_seconds: '1' }, '#/advance_seconds'],
    [{ advance_seconds: 1, now: '2070-01-01T00:00:00Z' }, '#/advance_seconds'],
    [{ now: 'tomorrow' }, '#/now'],
    [{ now: '2020-01-01T00:00:00Z' }, '#/now'],
    [{ now: '9500-01-01T00:00:00Z' }, '#/now'],
    [{ frozen: 'yes' }, '#/frozen'],
    [{ back: 1 }, '#/back'],
  ];
  const before = Date.parse((await call.get('/test/clock')).json.now);
  for (const [body, pointer] of refused) {
    const { status, json } = await call.post('/test/clock', body);
    assert.deepEqual([status, json.code, json.errors[0].pointer], [422, 'validation-failed', pointer]);
  }
  assert.equal((await call.post('/test/clock', '{')).status, 400);
  const { now, frozen } = (await call.get('/test/clock')).json;
  assert.equal(frozen, false);
  assert.ok(Date.parse(now) >= before && Date.parse(now) < before + 60_000);
});

test('a move at one replica is heard by the others, which do at once what is due by it', async () => {
  const mover = await startErrand({ env: { ...inTestMode, ERRAND_ROLES: 'api' } });
  const worker = await startErrand({
    env: { ...inTestMode, ERRAND_ROLES: 'worker' },
    databaseUrl: mover.databaseUrl,
  });
  try {
    const here = calling(() => mover.url);
    const { id } = (await here.post('/v1/jobs', { type: 'x', delay_seconds: hours(5) })).json;
    const { now } = (await here.post('/test/clock', { advance_seconds: hours(6) })).json;
    // Within the ten seconds after which it would have been found without a word.
    const isQueued = async () => (await here.get(`/v1/jobs/${id}`)).json.state === 'queued';
    await until(isQueued, { timeoutMs: 5_000 });
    const there = (await calling(() => worker.url).get('/test/clock')).json.now;
    assert.ok(Date.parse(there) >= Date.parse(now));
  } finally {
    await worker.stop();
    await mover.stop();
  }
});

test('says when the chores have not all run', async () => {
  const row = { now: new Date(), frozen: true, moves: '1' };
  const clock = new TestClock({
    db: { maybeOne: async () => row } as unknown as Db,
    catchUp: () => Promise.reject(new Error('no database')),
    onError: (error) => assert.fail(String(error)),
  });
  assert.deepEqual(await clock.move({ frozen: true }), { now: row.now, frozen: true, chores_done: false });
});

test('older news of the clock does not replace newer', async () => {
  const rows = [
    { now: new Date(2_000), frozen: true, moves: '2' },
    { now: new Date(1_000), frozen: true, moves: '1' },
  ];
  const clock = new TestClock({
    db: { one: async () => rows.shift() } as unknown as Db,
    catchUp: async () => {},
    onError: (error) => assert.fail(String(error)),
  });
  await clock.look();
  await clock.look();
  assert.equal(clock.now().getTime(), 2_000);
});

test('each move is caught up with once, whoever made it and however often it is told', async () => {
  let moves = 0;
  let caughtUp = 0;
  const row = () => ({ now: new Date(moves), frozen: true, moves: String(moves) });
  const clock = new TestClock({
    db: { one: async () => row(), maybeOne: async () => ++moves && row() } as unknown as Db,
    catchUp: async () => void caughtUp++,
    onError: (error) => assert.fail(String(error)),
  });
  const heard = async () => {
    clock.hear();
    await new Promise((resolve) => setImmediate(resolve));
    return caughtUp;
  };
  await clock.look();
  assert.equal(await heard(), 0);
  await clock.move({ advance_seconds: 1 });
  assert.equal(await heard(), 1);
  moves++;
  assert.equal(await heard(), 2);
  assert.equal(await heard(), 2);
});

describe('a process without the test mode', () => {
  test('has no such routes, and the clock the migrations made', async () => {
    const plain = await startErrand();
    const database = new pg.Client({ connectionString: plain.databaseUrl });
    try {
      const ask = calling(() => plain.url);
      for (const answer of [await ask.get('/test/clock'), await ask.post('/test/clock', { frozen: true })])
        assert.deepEqual([answer.status, answer.json.code], [404, 'not-found']);
      assert.equal((await ask.get('/openapi.json')).json.paths['/test/clock'], undefined);
      await database.connect();
      const { rows } = await database.query(
        `select prosrc from pg_proc where oid = 'errand.now'::regproc and to_regclass('errand.test_clock') is null`,
      );
      assert.deepEqual(rows, [{ prosrc: 'select now()' }]);
    } finally {
      await database.end();
      await plain.stop();
    }
  });

  test('does not start where the clock can be moved', async () => {
    await assert.rejects(
      startErrand({ databaseUrl: errand.databaseUrl }),
      /can be moved by tests; set ERRAND_TEST_CLOCK=true, or use another database/,
    );
  });
});

test('the clock is not put under a database that has held jobs', async () => {
  const database = await cloneDatabase();
  try {
    const plain = await startErrand({ databaseUrl: database.url });
    await calling(() => plain.url).post('/v1/jobs', { type: 'x' });
    await plain.stop();
    await assert.rejects(
      startErrand({ databaseUrl: database.url, env: inTestMode }),
      /this one has held jobs or schedules; use a new one/,
    );
  } finally {
    await database.drop();
  }
});

test('replicas that start at once put one clock under a new database', async () => {
  const database = await cloneDatabase();
  try {
    const replicas = await Promise.all(
      Array.from({ length: 4 }, () => startErrand({ databaseUrl: database.url, env: inTestMode })),
    );
    const [first] = replicas;
    assert.equal((await calling(() => first?.url ?? '').get('/test/clock')).json.frozen, false);
    await Promise.all(replicas.map((one) => one.stop()));
  } finally {
    await database.drop();
  }
});
