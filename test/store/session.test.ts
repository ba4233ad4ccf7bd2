// The settings of sessions: in force with and without a pooler, and never missing unnoticed.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { openPool } from '../../src/store/db.ts';
import { alone, migrate, missingSteps } from '../../src/store/migrate.ts';
import { checkSessions, sessionSettings, settleRole } from '../../src/store/session.ts';
import { hot, sql } from '../../src/store/sql.ts';
import { type FakePooler, fakePooler } from '../support/fake-pooler.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { onServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const settings = sessionSettings(3_000);
const inForce = sql<{ name: string; setting: string }>`
  select name, setting from pg_settings where name = any($1)`;
const named = hot<{ n: number }>('session_test')`select $1::int + 1 n`;
const kept = sql<{
  n: number;
}>`select count(*)::int n from pg_prepared_statements where name = 'session_test'`;
const waitsLong = `
  select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'
    and clock_timestamp() - query_start > interval '700 ms'`;

let database: TestDatabase;
let pooler: FakePooler;
let refusing: FakePooler;

before(async () => {
  database = await cloneDatabase();
  pooler = await fakePooler(database.url, false);
  refusing = await fakePooler(database.url, true);
});

after(async () => {
  await pooler.stop();
  await refusing.stop();
  await database.drop();
});

test('a session reached directly is told its settings and keeps hot statements prepared', async () => {
  const way = { url: database.url, pooled: false, settings };
  await checkSessions(way);
  const db = openPool({ name: 'test', max: 1, way, onError: () => {} });
  try {
    assert.deepEqual(await settingsIn(db), settings);
    assert.equal((await db.one(named, [1])).n, 2);
    assert.equal((await db.one(kept)).n, 1);
  } finally {
    await db.end();
  }
});

test('behind a pooler the role is given the settings once, and nothing is told or prepared', async () => {
  const way = { url: refusing.before(database.url), pooled: true, settings };
  await assert.rejects(checkSessions(way), /alter role .* in database .* set statement_timeout = '3000';/);
  const lines = await settleRole(way, database.url);
  assert.equal(lines.length, Object.keys(settings).length);
  await checkSessions(way);
  assert.deepEqual(await settleRole(way, database.url), []);

  const db = openPool({ name: 'test', max: 1, way, onError: () => {} });
  try {
    assert.deepEqual(await settingsIn(db), settings);
    assert.equal((await db.one(named, [1])).n, 2);
    assert.equal(await db.transaction(async (tx) => (await tx.one(named, [2])).n), 3);
    assert.equal((await db.one(kept)).n, 0);
  } finally {
    await db.end();
  }

  const longer = { ...way, settings: sessionSettings(5_000) };
  await assert.rejects(checkSessions(longer), (error: Error) => {
    const lines = error.message.split('\n').filter((line) => line.startsWith('  alter role'));
    return lines.length === 1 && /statement_timeout = '5000';/.test(lines[0] ?? '');
  });
});

test('replicas that start together give the role its settings without a quarrel', async () => {
  const fresh = await cloneDatabase();
  const own = await fakePooler(fresh.url, true);
  const way = { url: own.before(fresh.url), pooled: true, settings };
  try {
    await Promise.all(Array.from({ length: 5 }, () => alone(fresh.url, () => settleRole(way, fresh.url))));
    await checkSessions(way);
  } finally {
    await own.stop();
    await fresh.drop();
  }
});

test('who may not give the role its settings is told what to ask a superuser for', async () => {
  const role = `errand_${randomBytes(4).toString('hex')}`;
  const other = new URL(database.url);
  [other.username, other.password] = [role, 'x'];
  await onServer(database.url, (client) => client.query(`create role ${role} login password 'x'`));
  try {
    const way = { url: pooler.before(database.url), pooled: true, settings: sessionSettings(7_000) };
    await assert.rejects(
      settleRole(way, other.href),
      /nobody may give the role ".*" its settings here; let a superuser run\n {2}alter role .* = '7000';/,
    );
  } finally {
    await onServer(database.url, (client) => client.query(`drop role ${role}`));
  }
});

test('idle sessions of before are ended when the role is given its settings', async () => {
  const fresh = await cloneDatabase();
  const own = await fakePooler(fresh.url, false);
  const url = new URL(own.before(fresh.url));
  url.searchParams.set('application_name', 'errand old');
  try {
    const ended = await onServer(url.href, async (client) => {
      const gone = new Promise((resolve) => client.once('error', resolve));
      await client.query('select 1');
      await settleRole({ url: own.before(fresh.url), pooled: true, settings }, fresh.url);
      return gone;
    });
    assert.match(String(ended), /terminat/);
  } finally {
    await own.stop();
    await fresh.drop();
  }
});

test('a migration that waits for another outlasts the limits of the role', async () => {
  const fresh = await cloneDatabase();
  const own = await fakePooler(fresh.url, false);
  const short = { url: own.before(fresh.url), pooled: true, settings: sessionSettings(500) };
  try {
    await settleRole(short, fresh.url);
    const waiting = await onServer(fresh.url, async (client) => {
      await client.query(`begin; select pg_advisory_xact_lock(hashtext('errand.migrate'))`);
      const migration = migrate(fresh.url);
      await until(() => onServer(fresh.url, async (other) => (await other.query(waitsLong)).rowCount === 1));
      return { migration };
    });
    assert.deepEqual(await waiting.migration, []);
  } finally {
    await own.stop();
    await fresh.drop();
  }
});

test('a pooler that nobody told of is named, with the setting that helps', async () => {
  const help = /leads through a pooler; set ERRAND_POOLER=transaction, and ERRAND_DIRECT_DATABASE_URL/;
  for (const one of [pooler, refusing]) {
    const url = one.before(database.url);
    await assert.rejects(checkSessions({ url, pooled: false, settings }), help);
  }
  await assert.rejects(missingSteps(pooler.before(database.url)), help);
  await assert.rejects(migrate(pooler.before(database.url)), help);
});

async function settingsIn(db: ReturnType<typeof openPool>): Promise<Record<string, string>> {
  const rows = await db.many(inForce, [Object.keys(settings)]);
  return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
}
