// Brings the schema to the version this program was written for. Forward only: expand first, contract a release later.
// Invariant: two runners never migrate at once (a lock of ours, which ends with its transaction, unlike the session lock of
// node-pg-migrate), no step waits for a lock longer than it may, and none runs through a pooler, which forgets what is set.
// Next room: migrations/, plain SQL.
import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import { fixedPlans, refusePooler } from './session.ts';
import { sql } from './sql.ts';

const folder = fileURLToPath(new URL('../../migrations', import.meta.url));

/** Applies what is missing and names it. Waits up to 60 s for another runner; throws when a step fails. */
export async function migrate(url: string, log: (line: string) => void = () => {}): Promise<string[]> {
  return alone(url, async () => {
    const worker = clientOf(url);
    try {
      await worker.connect();
      return await apply(worker, log);
    } finally {
      await worker.end();
    }
  });
}

/** Does what changes the database for all, while nobody else does: waits up to 60 s for another to end. */
export async function alone<T>(url: string, work: () => Promise<T>): Promise<T> {
  const holder = clientOf(url);
  try {
    await holder.connect();
    await refusePooler(holder);
    await lock(holder);
    return await work();
  } finally {
    await holder.end();
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
    await refusePooler(client);
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

function clientOf(url: string): pg.Client {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    // A step may take minutes without a word, and balancers forget connections that are silent.
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  });
  client.on('error', () => {});
  return client;
}

/** A lock that lives in a transaction of its own and ends with a runner that is killed. */
async function lock(holder: pg.Client): Promise<void> {
  await holder.query(
    `begin; set local lock_timeout = '60s'; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0`,
  );
  try {
    await holder.query(`select pg_advisory_xact_lock(hashtext('errand.migrate'))`);
  } catch (cause) {
    throw new Error('another migration has been running for a minute; wait for it to end', { cause });
  }
}

async function apply(client: pg.Client, log: (line: string) => void): Promise<string[]> {
  // What a runner that was killed had begun ends with it, as its lock does.
  await client.query(
    `set lock_timeout = '10s'; set statement_timeout = '10min'; set client_connection_check_interval = '10s'`,
  );
  // The role may have the plans of the pools: right for many small statements, wrong for one that walks a table.
  await client.query(ordinaryPlans.text, [Object.keys(fixedPlans)]);
  await client.query('create schema if not exists errand_migrations');
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

export const ordinaryPlans = sql<unknown>`
  select set_config(name, boot_val, false) from pg_settings where name = any($1)`;
