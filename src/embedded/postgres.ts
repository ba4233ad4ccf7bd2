// Why this room exists: "npm start" must work with nothing installed, so errand brings a real PostgreSQL along.
// Invariant: one server per data folder. A server whose launcher lives is adopted and never stopped by us; one whose
// launcher is dead is ended first, because its settings and its fate are not ours.
// Next room: binaries.ts, then privilege.ts, cluster.ts, server.ts, database.ts in the order of a first start.
import { mkdir, realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type Binaries, findBinaries } from './binaries.ts';
import { type Cluster, createCluster, openCluster, ownCluster, refuseOtherVersion } from './cluster.ts';
import { ensureDatabase } from './database.ts';
import { type Footing, findFooting, type Way, waysToRun, whoRuns } from './privilege.ts';
import { ServerDidNotStart, startServer } from './server.ts';
import { endProcess, findSurvivor, isGone, type LockFile } from './survivor.ts';

export interface EmbeddedOptions {
  /** Folder that holds the data in `postgres/`; made when missing. */
  dataDir: string;
  /** Database to create and to name in the url; default `errand`. */
  database?: string;
  /** Server settings, e.g. `{ fsync: 'off' }`; the default is durable. Ignored by a server that is adopted. */
  settings?: Record<string, string>;
  /** Receives every line the server logs. */
  log?: (line: string) => void;
  /** Limit for the server to become ready, recovery after a crash included; default 120 s. */
  readyMs?: number;
  /** Stands in for the machine; only tests choose. */
  machine?: {
    /** Ways to get past "root is not permitted", best first. */
    ways?: readonly Way[];
    /** Programs to run instead of those of the platform package. */
    binaries?: Binaries;
    /** False: the server is not told to end with us, as on systems that cannot. */
    tied?: boolean;
  };
}

export interface EmbeddedPostgres {
  url: string;
  port: number;
  /** The data folder as the server knows it. */
  dataDir: string;
  version: string;
  /** True when another living process runs this server: it ends with that process, and `stop` leaves it alone. */
  adopted: boolean;
  /** Shuts the server down, unless it was adopted. Idempotent. */
  stop(): Promise<void>;
}

interface Running {
  port: number;
  adopted: boolean;
  stop(): Promise<void>;
}

const TRIES = 8;

/** Starts PostgreSQL on `dataDir`, or joins the one that runs there; throws with the remedy or the server's last lines. */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  // Before anything is made: where there are no programs, the remedy is another database, not another folder.
  const binaries = options.machine?.binaries ?? (await findBinaries());
  const dataDir = await ensureFolder(resolve(options.dataDir));
  const ways = options.machine?.ways ?? waysToRun(await whoRuns());
  const footing = await findFooting(ways, binaries, dataDir);
  const durable = options.settings?.fsync !== 'off';
  const cluster = (await openCluster(dataDir)) ?? (await createCluster(dataDir, footing, durable));
  await refuseOtherVersion(cluster, footing.version);

  const running = await startOrAdopt(cluster, footing, options);
  const address = `postgres://postgres:${cluster.password}@127.0.0.1:${running.port}`;
  const database = options.database ?? 'errand';
  try {
    await ensureDatabase(`${address}/postgres`, database);
  } catch (error) {
    await running.stop();
    throw error;
  }
  return {
    url: `${address}/${encodeURIComponent(database)}`,
    port: running.port,
    dataDir: cluster.data,
    version: footing.version,
    adopted: running.adopted,
    stop: running.stop,
  };
}

async function ensureFolder(dataDir: string): Promise<string> {
  try {
    await mkdir(dataDir, { recursive: true });
    return await realpath(dataDir);
  } catch (error) {
    throw new Error(
      `cannot make data folder ${dataDir}: ${(error as Error).message}; choose another ERRAND_DATA_DIR`,
    );
  }
}

/** Every round either ends in a server or removes one reason why there is none; races with other starts show here. */
async function startOrAdopt(cluster: Cluster, footing: Footing, options: EmbeddedOptions): Promise<Running> {
  const log = options.log ?? (() => {});
  let lastError: Error | undefined;
  for (let round = 0; round < TRIES; round++) {
    const found = await findSurvivor(cluster.data);
    if (found.kind === 'running') {
      if (found.orphan) {
        await endProcess(found.lock.pid);
        continue;
      }
      const port = await untilAdoptable(cluster, found.lock);
      if (port !== null) return { port, adopted: true, stop: async () => {} };
      continue;
    }
    try {
      await ownCluster(cluster, footing);
      const server = await startServer({
        cluster,
        footing,
        log,
        tied: options.machine?.tied ?? true,
        settings: options.settings ?? {},
        stalePid: found.kind === 'stale' ? found.pid : null,
        readyMs: options.readyMs ?? 120_000,
      });
      return { port: server.port, adopted: false, stop: server.stop };
    } catch (error) {
      if (!(error instanceof ServerDidNotStart) || error.failure === 'failed') throw error;
      lastError = error;
      // The backends of a killed server need a moment to notice and to let go of its memory.
      await pause(100 * (round + 1));
    }
  }
  throw (
    lastError ?? new Error(`embedded PostgreSQL on ${cluster.data} keeps ending and starting; end it by hand`)
  );
}

/** The port of another process's server once it is ready; null when it went away instead. */
async function untilAdoptable({ data }: Cluster, first: LockFile): Promise<number | null> {
  const until = performance.now() + 120_000;
  let lock = first;
  while (lock.status !== 'ready') {
    if (lock.status === 'stopping') {
      await isGone(lock.pid, 30_000);
      return null;
    }
    if (performance.now() > until) {
      throw new Error(
        `embedded PostgreSQL of process ${lock.pid} on ${data} is not ready after 120 s; end it by hand`,
      );
    }
    await pause(50);
    const found = await findSurvivor(data);
    if (found.kind !== 'running' || found.orphan) return null;
    lock = found.lock;
  }
  return lock.port;
}
