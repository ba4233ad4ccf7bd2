// Brings the schema to the version this program was written for. Forward only: expand first, contract a release later.
// Invariant: two runners never migrate at once (a row lock of ours, which also holds behind PgBouncer, unlike the session
// lock of node-pg-migrate), and no step waits for a lock longer than it may.
// Next room: migrations/, plain SQL.
import { readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import pg from 'pg';

const folder = fileURLToPath(new URL('../../migrations', import.meta.url));

/** Applies what is missing and names it. Waits up to 60 s for another runner; throws when a step fails. */
export async function migrate(url: string, log: (line: string) => void = () => {}): Promise<string[]> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    statement_timeout: 600_000,
  });
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query(`set lock_timeout = '10s'`);
    await makeLockTable(client);
    return await underLock(client, () => apply(client, log));
  } finally {
    await client.end();
  }
}

/** Steps that the schema lacks; empty = this program may serve. A schema that is newer is fine: steps only expand. */
export async function missingSteps(url: string): Promise<string[]> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
  });
  client.on('error', () => {});
  await client.connect();
  try {
    const { rows } = await client.query<{ known: boolean }>(
      `select to_regclass('errand_migrations.applied') is not null known`,
    );
    if (!rows[0]?.known) return await steps();
    const applied = await client.query<{ name: string }>('select name from errand_migrations.applied');
    const done = new Set(applied.rows.map((row) => row.name));
    return (await steps()).filter((step) => !done.has(step));
  } finally {
    await client.end();
  }
}

async function steps(): Promise<string[]> {
  return (await readdir(folder))
    .filter((file) => file.endsWith('.sql'))
    .map((file) => file.replace(/\.sql$/, ''))
    .sort();
}

/** "if not exists" still fails when two create at the same moment: the second time there is something to find. */
async function makeLockTable(client: pg.Client): Promise<void> {
  const make = () =>
    client.query(
      `create schema if not exists errand_migrations;
       create table if not exists errand_migrations.lock (id int primary key, holder text, until timestamptz)`,
    );
  await make().catch(make);
}

async function underLock<T>(client: pg.Client, work: () => Promise<T>): Promise<T> {
  const holder = `${process.pid}.${Math.random().toString(36).slice(2)}`;
  const giveUp = performance.now() + 60_000;
  for (;;) {
    const { rowCount } = await client.query(
      `insert into errand_migrations.lock values (1, $1, clock_timestamp() + interval '15 minutes')
       on conflict (id) do update set holder = excluded.holder, until = excluded.until
       where lock.until < clock_timestamp() or lock.holder is null`,
      [holder],
    );
    if (rowCount === 1) break;
    if (performance.now() > giveUp) {
      throw new Error('another migration has been running for a minute; see table errand_migrations.lock');
    }
    await sleep(250);
  }
  try {
    return await work();
  } finally {
    await client.query('update errand_migrations.lock set holder = null where holder = $1', [holder]);
  }
}

async function apply(client: pg.Client, log: (line: string) => void): Promise<string[]> {
  const done = await runner({
    dbClient: client,
    dir: folder,
    direction: 'up',
    migrationsSchema: 'errand_migrations',
    migrationsTable: 'applied',
    noLock: true,
    checkOrder: true,
    log: () => {},
    logger: { info: () => {}, debug: () => {}, warn: log, error: log },
  });
  return done.map((step) => step.name);
}
