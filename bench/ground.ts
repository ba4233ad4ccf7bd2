// The ground all contestants stand on: one durable PostgreSQL of our own, a fresh database for each of them in each
// round, the accounts of its processes, and a Redis for those that need one.
// Invariant: the servers belong to this run alone and go with it, data included; databases are not dropped in between,
// because a drop forces a checkpoint into the next contestant's round.
// Next room: contestant.ts, the processes that run on it.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../src/embedded/postgres.ts';
import { type Persistence, type Redis, startRedis } from './redis.ts';

/** Durable defaults; what differs from them is the same for all contestants and printed with the figures. */
export const settings = {
  shared_buffers: '512MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '30min',
  max_connections: '200',
  shared_preload_libraries: 'pg_stat_statements',
};

const prefix = 'errand-bench-';

export interface Machine {
  cores: number;
  cpu: string;
  memory_gib: number;
  node: string;
  postgres: string;
}

export interface Ground {
  machine: Machine;
  /** Process id of the server, for the accounts of {@link cpuOfServer}. */
  pid: number;
  /** Makes an empty database and names its address. */
  database(name: string): Promise<string>;
  /** Runs one statement, as superuser, on the given database. */
  ask<Row extends pg.QueryResultRow>(url: string, text: string, params?: unknown[]): Promise<Row[]>;
  /** A Redis of this run, started when it is first asked for. */
  redis(persistence: Persistence): Promise<Redis>;
  stop(): Promise<void>;
}

export async function prepareGround(): Promise<Ground> {
  await sweepDeadRuns();
  const folder = await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`));
  const remove = () => rm(folder, { recursive: true, force: true, maxRetries: 5 });
  try {
    const server = await startEmbeddedPostgres({ dataDir: folder, database: 'postgres', settings });
    const lock = await readFile(join(server.dataDir, 'postmaster.pid'), 'utf8');
    await refuseWeakServer(server.url);
    const redis = new Map<Persistence, Promise<Redis>>();
    return {
      machine: machineWith(server.version),
      pid: Number(lock.split('\n')[0]),
      async database(name) {
        await ask(server.url, `create database ${name}`);
        const url = new URL(server.url);
        url.pathname = `/${name}`;
        await ask(url.href, 'create extension pg_stat_statements');
        return url.href;
      },
      ask,
      redis(persistence) {
        const one = redis.get(persistence) ?? startRedis(folder, persistence);
        redis.set(persistence, one);
        return one;
      },
      async stop() {
        await Promise.allSettled([...redis.values()].map(async (one) => (await one).stop()));
        await server.stop();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** A run that was killed leaves gigabytes; its server is gone already. */
async function sweepDeadRuns(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = new RegExp(`^${prefix}(\\d+)-`).exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => {});
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

async function refuseWeakServer(url: string): Promise<void> {
  const [row] = await ask<{ fsync: string; synchronous_commit: string; full_page_writes: string }>(
    url,
    `select current_setting('fsync') fsync, current_setting('synchronous_commit') synchronous_commit,
       current_setting('full_page_writes') full_page_writes`,
  );
  for (const [name, value] of Object.entries(row ?? {})) {
    if (value !== 'on')
      throw new Error(`${name} is "${value}"; a bench on a server that forgets proves nothing`);
  }
}

async function ask<Row extends pg.QueryResultRow>(
  url: string,
  text: string,
  params: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, query_timeout: 120_000 });
  await client.connect();
  try {
    return (await client.query<Row>(text, params)).rows;
  } finally {
    await client.end();
  }
}

function machineWith(postgres: string): Machine {
  return {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    memory_gib: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    postgres,
  };
}
