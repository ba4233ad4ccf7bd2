// Why this room exists: the data folder must appear whole or not at all, also when two processes make it at once or
// one is killed half-way.
// Invariant: initdb works in a folder of its own and one rename publishes the result, password included.
// Next room: server.ts, which runs a server on it.
import { randomBytes } from 'node:crypto';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { REACHABLE_ROOT } from './binaries.ts';
import { runBounded } from './command.ts';
import { commandLine, type Footing, type Owner } from './privilege.ts';

export interface Cluster {
  /** The data folder as the server knows it, links resolved. */
  data: string;
  password: string;
}

const PASSWORD_FILE = 'errand.password';
const STAGING = '.postgres-new-';
const INITDB_LIMIT = { timeoutMs: 120_000 };

/** Opens the cluster below `dataDir`, or null when there is none yet; refuses one of another PostgreSQL version. */
export async function openCluster(dataDir: string): Promise<Cluster | null> {
  const named = join(dataDir, 'postgres');
  const data = await realpath(named).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (data === null) {
    if (await lstat(named).catch(() => null)) {
      throw new Error(
        `embedded data folder ${named} is a link to nowhere; restore what it points to or remove the link`,
      );
    }
    return null;
  }
  const password = await readFile(join(data, PASSWORD_FILE), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EACCES') {
      throw new Error(`embedded data folder ${data} belongs to another user; choose another ERRAND_DATA_DIR`);
    }
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (password !== null) return { data, password };
  if ((await readdir(data)).length === 0) return null;
  throw new Error(
    `${data} is not a data folder of errand (no ${PASSWORD_FILE}); choose another ERRAND_DATA_DIR`,
  );
}

/** Throws unless the cluster was written by this major version of PostgreSQL. */
export async function refuseOtherVersion({ data }: Cluster, version: string): Promise<void> {
  const written = (await readFile(join(data, 'PG_VERSION'), 'utf8')).trim();
  const major = version.split('.')[0] ?? version;
  if (written === major) return;
  throw new Error(
    `embedded data folder ${data} was written by PostgreSQL ${written}, this is ${major}; ` +
      'move it away or choose another ERRAND_DATA_DIR',
  );
}

/** Makes a cluster below `dataDir`; when another process was faster, its cluster is the answer. */
export async function createCluster(dataDir: string, footing: Footing, durable: boolean): Promise<Cluster> {
  await mkdir(dataDir, { recursive: true });
  await sweepHalfMade(dataDir);
  // Staged on the same file system as its final place, or for good where the server can reach it.
  const stage = await mkdtemp(
    footing.reachesData ? join(dataDir, `${STAGING}${process.pid}-`) : join(REACHABLE_ROOT, 'errand-data-'),
  );
  let published = false;
  try {
    await runInitdb(stage, footing, durable);
    published = await publish(stage, dataDir, footing.reachesData);
  } finally {
    if (!published || footing.reachesData) await rm(stage, { recursive: true, force: true });
  }
  const cluster = await openCluster(dataDir);
  if (cluster === null)
    throw new Error(`embedded data folder ${dataDir}/postgres vanished while it was made`);
  return cluster;
}

/** Gives every file to the user the server runs as; call it only while no server runs. */
export async function ownCluster({ data }: Cluster, { way, reachesData }: Footing): Promise<void> {
  if (way.owner === null) return;
  if (!reachesData && !data.startsWith(REACHABLE_ROOT)) {
    // Made in another way that is refused today: moving somebody's data is not for us to decide.
    throw new Error(
      `embedded data folder ${data} is closed to the user PostgreSQL has to run as (${way.name}); ` +
        'move it below a folder everybody may pass, or choose another ERRAND_DATA_DIR',
    );
  }
  const { uid, gid } = await stat(data);
  if (uid === way.owner.uid && gid === way.owner.gid) return;
  const who = `${way.owner.uid}:${way.owner.gid}`;
  const given = await runBounded('chown', ['-R', who, data], INITDB_LIMIT);
  if (!given.ok)
    throw new Error(`cannot give ${data} to user ${who}: ${given.output}; choose another ERRAND_DATA_DIR`);
}

async function runInitdb(stage: string, { way, binaries }: Footing, durable: boolean): Promise<void> {
  const data = join(stage, 'postgres');
  const passwordFile = join(stage, 'password');
  const password = randomBytes(24).toString('hex');
  // The stage stays ours and lets others only pass, so that a later start may run in another way and still get in.
  await chmod(stage, 0o711);
  await mkdir(data, { mode: 0o700 });
  if (way.owner !== null) await chown(data, way.owner.uid, way.owner.gid);
  await writePrivate(passwordFile, password, way.owner);
  const command = [
    binaries.initdb,
    '-D',
    data,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    // Loopback is shared by every user of the machine, so trust would be an open door.
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--no-locale',
    '--no-instructions',
    ...(durable ? [] : ['--no-sync']),
  ];
  const made = await runBounded(...commandLine(way, [], command), INITDB_LIMIT);
  if (!made.ok) throw new Error(`initdb failed (${way.name}): ${made.output}`);
  await writePrivate(join(data, PASSWORD_FILE), password, way.owner);
  await rm(passwordFile);
}

async function publish(stage: string, dataDir: string, moves: boolean): Promise<boolean> {
  const data = join(stage, 'postgres');
  const place = join(dataDir, 'postgres');
  try {
    if (moves) await rename(data, place);
    else await symlink(data, place);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    // Renaming onto a folder that is not empty, or onto a link, fails: another process published first.
    if (['ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'EPERM'].includes(code)) return false;
    throw error;
  }
}

async function writePrivate(path: string, text: string, owner: Owner | null): Promise<void> {
  await writeFile(path, text, { mode: 0o600 });
  if (owner !== null) await chown(path, owner.uid, owner.gid);
}

async function sweepHalfMade(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (!name.startsWith(STAGING)) continue;
    const maker = Number(name.slice(STAGING.length).split('-')[0]);
    // Its maker may be another process that is busy right now.
    if (isAlive(maker)) continue;
    await rm(join(dataDir, name), { recursive: true, force: true });
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
