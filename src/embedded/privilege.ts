// Why this room exists: PostgreSQL refuses to run as root, and root is who runs in most containers.
// Invariant: no user is created and no file of the project changes its owner; each way is tried before it is trusted.
// Next room: cluster.ts, which makes the data folder for the chosen way.
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { type Binaries, copyBinaries } from './binaries.ts';
import { runBounded } from './command.ts';

export interface Owner {
  uid: number;
  gid: number;
}

export interface Way {
  name: string;
  /** Words put before every command. */
  prefix: readonly string[];
  /** Who must own the data files for this way; null where owners are left alone. */
  owner: Owner | null;
}

/** A way that was tried: the programs it can reach, and whether it reaches the data folder's parent. */
export interface Footing {
  way: Way;
  binaries: Binaries;
  version: string;
  reachesData: boolean;
}

export interface Person {
  platform: string;
  /** null where there are no user ids (Windows). */
  uid: number | null;
  gid: number | null;
  /** initdb refuses to run for a user id without a name. */
  hasName: boolean;
  passwd: string;
}

const TRIAL = { timeoutMs: 20_000 };

/** Every way worth trying for this person, best first. */
export function waysToRun(person: Person): Way[] {
  const direct: Way = { name: 'direct', prefix: [], owner: null };
  if (person.platform !== 'linux' || person.uid === null) return [direct];
  const somebody = pickUser(person.passwd);
  // Inside the namespace we appear as somebody with a name, outside we stay who we are: files need no new owner.
  const namespace: Way = {
    name: 'user namespace',
    prefix: ['unshare', '--user', `--map-user=${somebody.uid}`, `--map-group=${somebody.gid}`, '--'],
    owner: { uid: person.uid, gid: person.gid ?? 0 },
  };
  if (person.uid !== 0) return person.hasName ? [direct] : [namespace, direct];
  const setpriv: Way = {
    name: 'setpriv',
    prefix: ['setpriv', `--reuid=${somebody.uid}`, `--regid=${somebody.gid}`, '--clear-groups', '--'],
    owner: somebody,
  };
  return [namespace, setpriv];
}

/** An ordinary user that exists here: nobody if there is one, else the first who is not root. */
export function pickUser(passwd: string): Owner {
  const people = passwd
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name, , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
    .filter(({ uid, gid }) => uid > 0 && gid > 0);
  const found = people.find(({ name }) => name === 'nobody') ?? people[0];
  return found ? { uid: found.uid, gid: found.gid } : { uid: 65_534, gid: 65_534 };
}

/** The process that runs now, as `waysToRun` wants it. */
export async function whoRuns(): Promise<Person> {
  return {
    platform: process.platform,
    uid: process.getuid?.() ?? null,
    gid: process.getgid?.() ?? null,
    hasName: canName(),
    passwd: await readFile('/etc/passwd', 'utf8').catch(() => ''),
  };
}

/** Tries the ways in order and returns the first that runs the programs; throws with every reason when none does. */
export async function findFooting(
  ways: readonly Way[],
  binaries: Binaries,
  dataDir: string,
): Promise<Footing> {
  const reasons: string[] = [];
  for (const way of ways) {
    const allowed = await tryCommand(way, ['true']);
    if (!allowed.ok && process.platform !== 'win32') {
      reasons.push(`${way.name}: ${allowed.output}`);
      continue;
    }
    let reached = binaries;
    let trial = await tryCommand(way, [binaries.postgres, '--version']);
    if (!trial.ok && way.owner !== null) {
      reached = await copyBinaries(binaries);
      trial = await tryCommand(way, [reached.postgres, '--version']);
    }
    if (!trial.ok) {
      reasons.push(`${way.name}: ${trial.output}`);
      continue;
    }
    const reachesData =
      way.owner === null || (await tryCommand(way, ['sh', '-c', 'cd -- "$1"', 'sh', dataDir])).ok;
    return { way, binaries: reached, version: trial.output.replace(/^.*\(PostgreSQL\)\s*/, ''), reachesData };
  }
  throw new Error(
    `embedded PostgreSQL cannot run here (${reasons.join('; ')}); run as an ordinary user or set DATABASE_URL`,
  );
}

/** The words that run `command` in this way; `dying` comes last so that changing credentials cannot undo it. */
export function commandLine(
  way: Way,
  dying: readonly string[],
  command: readonly string[],
): [string, string[]] {
  const [first, ...rest] = [...way.prefix, ...dying, ...command];
  if (first === undefined) throw new Error('a command needs at least one word');
  return [first, rest];
}

/** Words that make a program end with its parent (kill -9 included); empty where the system cannot. */
export async function endsWithParent(platform: string): Promise<readonly string[]> {
  if (platform !== 'linux') return [];
  const words = ['setpriv', '--pdeathsig', 'INT', '--'];
  const { ok } = await runBounded('setpriv', [...words.slice(1), 'true'], TRIAL);
  return ok ? words : [];
}

function tryCommand(way: Way, command: readonly string[]) {
  const [first, rest] = commandLine(way, [], command);
  return runBounded(first, rest, TRIAL);
}

function canName(): boolean {
  try {
    return userInfo().username !== '';
  } catch {
    return false;
  }
}
