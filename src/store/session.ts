// What every session of the pools has set, and how it comes by it: told in the startup packet, or, behind a pooler, by the
// role, because there a packet with settings is refused and each transaction gets whatever session is free.
// Invariant: no pool runs on sessions that lack a setting: statements would have no limit and plans no order.
// Next room: db.ts, whose pools run on them; docs/guides/pgbouncer.md.
import pg from 'pg';
import { sql } from './sql.ts';

/** Parameters of Postgres by name, in the units and words of pg_settings. */
export type SessionSettings = Readonly<Record<string, string>>;

// jit and re-planning cost more than the statements they would speed up, a memo of look-ups by ids that never repeat more than
// the look-ups, and statistics of tables that are empty one moment and full the next mislead the planner; see docs/storage.md.
export const fixedPlans: SessionSettings = {
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_memoize: 'off',
  jit: 'off',
};

/** What the pools need, given the longest run of one statement. */
export function sessionSettings(statement_timeout_ms: number): SessionSettings {
  return {
    statement_timeout: String(statement_timeout_ms),
    lock_timeout: '2000',
    idle_in_transaction_session_timeout: '5000',
    ...fixedPlans,
  };
}

/** The settings as the `options` of a startup packet. */
export function startupOptions(settings: SessionSettings): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(' ');
}

/** How the pools reach their sessions. */
export interface Way {
  url: string;
  /** A pooler in transaction mode stands in between. */
  pooled: boolean;
  settings: SessionSettings;
}

/** What "errand migrate" gives the role of a pooler is not there yet. */
export class SettingsLacking extends Error {}

/** Throws, with what to do, unless sessions reached this way have the settings. */
export async function checkSessions({ url, pooled, settings }: Way): Promise<void> {
  if (pooled) {
    const lines = await onSession({ connectionString: url }, (client) => missing(client, settings));
    if (lines.length === 0) return;
    throw new SettingsLacking(
      [
        'sessions behind the pooler lack settings; "errand migrate" gives them to the role, or a superuser does:',
        ...lines.map((line) => `  ${line};`),
        'sessions that the pooler opened before keep what they had: RECONNECT on its console renews them',
      ].join('\n'),
    );
  }
  const direct = { connectionString: url, options: startupOptions(settings) };
  const isPooled = await onSession(direct, isBehindPooler).catch((error: unknown) => {
    if (error instanceof Error && /unsupported startup parameter/i.test(error.message)) return true;
    throw error;
  });
  if (isPooled) throw new Error(`DATABASE_URL leads through a pooler; ${remedy}`);
}

/**
 * Gives the settings to the role that the pooler logs in as, over a direct connection; returns the lines that it ran. To be
 * run `alone` (migrate.ts): two would trip over each other in the catalog.
 */
export async function settleRole({ url, settings }: Way, directUrl: string): Promise<string[]> {
  const lines = await onSession({ connectionString: url }, (client) => missing(client, settings));
  if (lines.length === 0) return [];
  const { role, database } = await onSession({ connectionString: url }, whoami);
  await onSession({ connectionString: directUrl }, async (client) => {
    try {
      for (const line of lines) await client.query(line);
    } catch (cause) {
      if (!(cause instanceof pg.DatabaseError) || cause.code !== '42501') throw cause;
      const asked = lines.map((line) => `\n  ${line};`).join('');
      throw new Error(`nobody may give the role "${role}" its settings here; let a superuser run${asked}`, {
        cause,
      });
    }
    await client.query(endOldSessions.text, [role, database]);
  });
  return lines;
}

/** Throws when a client that must have a session of its own has none. */
export async function refusePooler(client: pg.Client): Promise<void> {
  if (!(await isBehindPooler(client))) return;
  throw new Error(`the address for migrations and LISTEN leads through a pooler; ${remedy}`);
}

const remedy =
  'set ERRAND_POOLER=transaction, and ERRAND_DIRECT_DATABASE_URL to an address without it (docs/guides/pgbouncer.md)';

/** A pooler hands out keys for cancels of its own making, so the process they name is not the one that answers. */
async function isBehindPooler(client: pg.Client): Promise<boolean> {
  const told = (client as pg.Client & { processID: number | null }).processID;
  const { rows } = await client.query<{ pid: number }>(backend.text);
  return rows[0]?.pid !== told;
}

export const backend = sql<{ pid: number }>`select pg_backend_pid() pid`;

/** Statements that give the role what the session lacks. */
async function missing(client: pg.Client, settings: SessionSettings): Promise<string[]> {
  const { rows } = await client.query<{ line: string }>(missingSettings.text, [
    Object.keys(settings),
    Object.values(settings),
  ]);
  return rows.map(({ line }) => line);
}

// The role of the session and not of the address: a pooler may log in as another one, to a database of another name.
export const missingSettings = sql<{ line: string }>`
  select format('alter role %I in database %I set %s = %L', session_user, current_database(), wanted.name, wanted.value) line
  from unnest($1::text[], $2::text[]) with ordinality wanted(name, value, n)
  left join pg_settings have using (name)
  where have.setting is distinct from wanted.value
  order by wanted.n`;

async function whoami(client: pg.Client): Promise<{ role: string; database: string }> {
  const { rows } = await client.query<{ role: string; database: string }>(identity.text);
  return rows[0] ?? { role: '', database: '' };
}

export const identity = sql<{
  role: string;
  database: string;
}>`select session_user::text as role, current_database()::text as database`;

// They began before the settings, and a pooler would keep them for an hour. Those in use are left: they may do work.
export const endOldSessions = sql<unknown>`
  select pg_terminate_backend(pid) from pg_stat_activity
  where usename = $1 and datname = $2 and application_name like 'errand %' and state = 'idle' and pid <> pg_backend_pid()`;

async function onSession<T>(config: pg.ClientConfig, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    ...config,
    application_name: 'errand check',
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
  });
  client.on('error', () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
