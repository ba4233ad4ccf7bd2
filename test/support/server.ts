// Why this room exists: all test files of a run share one PostgreSQL server and one migrated template.
// Invariant: migrations run once per run; what was started here is stopped and removed by `stop`, data included.
// Next room: postgres.ts, which clones the template per test file; test/run.ts, which opens the server for all.
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Client } from 'pg';
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { migrate } from '../../src/store/migrate.ts';

/** What a test file needs to know; travels in `SERVER_VARIABLE` from the runner to the files. */
export interface TestServerFacts {
  /** Address of the maintenance database, as a user who may create databases. */
  url: string;
  template: string;
}

export interface TestServer extends TestServerFacts {
  /** What the server said of its own crashes: without it tests that lost their connections have no reason. */
  troubles(): readonly string[];
  stop(): Promise<void>;
}

export const SERVER_VARIABLE = 'ERRAND_TEST_SERVER';

/** Speed instead of durability: a test run never survives a power cut anyway. */
export const TEST_SETTINGS = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_connections: '300',
  shared_buffers: '128MB',
};

const FOLDER = 'errand-test-postgres-';

/** Opens the server of a run: `ERRAND_TEST_DATABASE_URL` if set, else an embedded one, with the template on it. */
export async function openTestServer(): Promise<TestServer> {
  const given = process.env.ERRAND_TEST_DATABASE_URL;
  const troubles: string[] = [];
  const hear = (line: string) => {
    if (/PANIC|was terminated by signal|ended unasked|crash|no space|out of memory/i.test(line))
      troubles.push(line);
  };
  const server = given ? { url: given, stop: async () => {} } : await startPrivateServer(TEST_SETTINGS, hear);
  const run = randomBytes(4).toString('hex');
  const template = `errand_run_${run}_template`;
  try {
    await onServer(server.url, (client) => client.query(`create database ${template}`));
    await migrate(databaseUrl(server.url, template));
    await onServer(server.url, async (client) => {
      // One stray connection to the template would make every clone fail.
      await client.query(`alter database ${template} with allow_connections false`);
    });
  } catch (error) {
    await server.stop();
    throw error;
  }
  return {
    url: server.url,
    template,
    troubles: () => troubles,
    async stop() {
      if (given) await dropAll(given, `errand_run_${run}_`);
      await server.stop();
    },
  };
}

/** Starts an embedded server nobody else uses, in a folder that goes with it. */
export async function startPrivateServer(
  settings: Record<string, string> = TEST_SETTINGS,
  log: (line: string) => void = () => {},
): Promise<{ url: string; port: number; dataDir: string; stop(): Promise<void> }> {
  await sweepDeadRuns();
  const folder = await mkdtemp(join(tmpdir(), `${FOLDER}${process.pid}-`));
  // Passable, so that root's server can stay inside it when it has to run as somebody else.
  await chmod(folder, 0o755);
  try {
    const server = await startEmbeddedPostgres({ dataDir: folder, database: 'postgres', settings, log });
    await easeTheDoor(server.url);
    return {
      url: server.url,
      port: server.port,
      dataDir: server.dataDir,
      async stop() {
        await server.stop();
        await removeDataFolder(folder);
      },
    };
  } catch (error) {
    await removeDataFolder(folder);
    throw error;
  }
}

/** The password, made with one round instead of 4,096: else each of thousands of connections would cost us a few ms of hashing. */
async function easeTheDoor(url: string): Promise<void> {
  const { password } = new URL(url);
  await onServer(url, (client) =>
    client.query(`set scram_iterations = 1; alter role postgres password '${password}'`),
  );
}

/** Removes a folder with data folders in it, and what a server that could not stay inside put elsewhere. */
export async function removeDataFolder(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.name !== 'postgres' || !entry.isSymbolicLink()) continue;
    const target = await readlink(join(entry.parentPath, entry.name));
    if (target.startsWith('/var/tmp/errand-data-'))
      await rm(dirname(target), { recursive: true, force: true });
  }
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** The address of another database on the same server. */
export function databaseUrl(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.href;
}

/** Runs statements on a connection of their own. */
export async function onServer<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: 15_000,
    query_timeout: 60_000,
  });
  client.on('error', () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function dropAll(url: string, prefix: string): Promise<void> {
  await onServer(url, async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      'select datname from pg_database where starts_with(datname, $1)',
      [prefix],
    );
    for (const { datname } of rows) await client.query(`drop database if exists ${datname} with (force)`);
  });
}

/** A run that was killed with -9 leaves its folder; its server is gone already. */
async function sweepDeadRuns(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(FOLDER)) continue;
    const pid = Number(name.slice(FOLDER.length).split('-')[0]);
    if (isAlive(pid)) continue;
    await removeDataFolder(join(tmpdir(), name)).catch(() => {});
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
