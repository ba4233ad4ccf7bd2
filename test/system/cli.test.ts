// The command line: what it refuses it refuses in clear words, before anything was started.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { cloneDatabase } from '../support/postgres.ts';
import { neutralEnvironment } from '../support/process.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

function errand(args: readonly string[], env: Record<string, string> = {}) {
  const run = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    env: { ...neutralEnvironment(process.env), ...env },
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

test('an unknown flag and an unknown command are errors, with a suggestion', () => {
  assert.match(errand(['serve', '--migrat']).err, /unknown option.*did you mean --migrate/is);
  assert.match(errand(['serf']).err, /unknown command.*did you mean serve/is);
  assert.equal(errand(['serf']).code, 1);
});

test('wrong settings stop the start, all of them at once', () => {
  const { code, err } = errand(['serve'], { PORT: '99999', HOST: '0.0.0.0', ERRAND_LEASE_SECONDS: 'soon' });
  assert.equal(code, 1);
  assert.match(err, /PORT "99999"/);
  assert.match(err, /ERRAND_LEASE_SECONDS "soon"/);
  assert.doesNotMatch(err, /at .*\.ts:\d+/, 'a stack trace is no explanation');
});

test('schedules are applied over http and https only', () => {
  const file = fileURLToPath(new URL('../../examples/schedules.yaml', import.meta.url));
  for (const url of ['ftp://x', 'localhost', '']) {
    const { code, err } = errand(['schedules', 'apply', '-f', file, '--url', url]);
    assert.deepEqual([code, err.includes(`--url "${url}" is no http or https URL`)], [1, true], err);
  }
});

test('refuses to listen beyond loopback without a word on authentication', () => {
  const { code, err } = errand(['serve'], { HOST: '0.0.0.0', DATABASE_URL: 'postgres://127.0.0.1:1/x' });
  assert.equal(code, 1);
  assert.match(err, /ERRAND_AUTH=off/);
});

test('migrate brings an empty database up to date, twice without harm; serve refuses an older schema', async () => {
  const database = await cloneDatabase();
  try {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('drop schema errand cascade; drop schema errand_migrations cascade');
    await client.end();
    const refused = errand(['serve'], { DATABASE_URL: database.url, PORT: '0' });
    assert.equal(refused.code, 1);
    assert.match(refused.err, /the schema lacks 0001_jobs.*run "errand migrate" first/);
    assert.match(errand(['migrate'], { DATABASE_URL: database.url }).out, /applied 0001_jobs/);
    assert.match(errand(['migrate'], { DATABASE_URL: database.url }).out, /up to date/);
  } finally {
    await database.drop();
  }
});

test('two migrations at once wait for each other', async () => {
  const database = await cloneDatabase();
  try {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('drop schema errand cascade; drop schema errand_migrations cascade');
    await client.end();
    const { migrate } = await import('../../src/store/migrate.ts');
    const done = await Promise.all([migrate(database.url), migrate(database.url), migrate(database.url)]);
    assert.equal(done.flat().length, done.flat().filter((name, i, all) => all.indexOf(name) === i).length);
    assert.ok(done.flat().includes('0001_jobs'));
  } finally {
    await database.drop();
  }
});

test('a migration is not kept waiting by one that was killed', async () => {
  const database = await cloneDatabase();
  const holder = new pg.Client({ connectionString: database.url });
  holder.on('error', () => {});
  await holder.connect();
  try {
    // What a killed runner leaves behind: its connection ends, and its lock with it.
    await holder.query(`begin; select pg_advisory_xact_lock(hashtext('errand.migrate'))`);
    const { migrate } = await import('../../src/store/migrate.ts');
    const waiting = migrate(database.url);
    await holder.end();
    assert.deepEqual(await waiting, []);
  } finally {
    await database.drop();
  }
});

test('a database that cannot be reached ends the start with one line', () => {
  const { code, err } = errand(['serve'], { DATABASE_URL: 'postgres://127.0.0.1:1/x' });
  assert.equal(code, 1);
  assert.match(err, /ECONNREFUSED|did not answer/);
  assert.doesNotMatch(err, /at .*\.ts:\d+/);
});
