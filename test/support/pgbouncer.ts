// Why this room exists: what survives PgBouncer is only known by running behind one. It is started with the file that is
// given to users, but for addresses and who may log in.
// Invariants: loopback and a private folder only; nothing outlives `stop`.
// Next room: debian.ts, where the program is from; test/drills/pooler.ts.
import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/embedded/server.ts';
import { exitOf, exitWithin, spawnTied } from './children.ts';
import { environmentOf, fromDebian, type Program, versionOf } from './debian.ts';
import { until } from './until.ts';

export interface PgBouncer {
  /** The address of the database by way of the pooler. */
  url: string;
  version: string;
  /** Ends it with SIGKILL, clients and all, and starts another. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

const example = fileURLToPath(new URL('../../examples/pgbouncer.ini', import.meta.url));

/** Starts PgBouncer before the database of an address; throws the reason when the program is not to be had. */
export async function startPgBouncer(database: string): Promise<PgBouncer> {
  const program = await fromDebian({ name: 'pgbouncer', path: 'usr/sbin/pgbouncer', version: '--version' });
  const told = await versionOf(program, '--version');
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'errand-pgbouncer-'));
  const file = writeFiles(new URL(database), port, folder);
  let child = await launch(program, file, port);
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    if ((await exitWithin(child, 3_000)).gone) return;
    child.kill('SIGKILL');
    await exitOf(child);
  };
  const url = new URL(database);
  url.port = String(port);
  return {
    url: url.href,
    version: /\d+\.\d+\.\d+/.exec(told)?.[0] ?? 'unknown',
    async restart() {
      await end('SIGKILL');
      child = await launch(program, file, port);
    },
    async stop() {
      await end('SIGINT');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function writeFiles(database: URL, port: number, folder: string): string {
  // PgBouncer does not run as root, and whom it becomes must read its files.
  chmodSync(folder, 0o755);
  const users = join(folder, 'userlist.txt');
  writeFileSync(users, `"${database.username}" "${decodeURIComponent(database.password)}"\n`);
  const name = database.pathname.slice(1);
  const text = readFileSync(example, 'utf8')
    .replace(/^errand = .*$/m, `${name} = host=127.0.0.1 port=${database.port} dbname=${name}`)
    .replace(/^listen_port = .*$/m, `listen_port = ${port}`)
    .replace(/^auth_file = .*$/m, `auth_file = ${users}`);
  const file = join(folder, 'pgbouncer.ini');
  const becomes = process.getuid?.() === 0 ? '\nuser = nobody\n' : '';
  writeFileSync(file, `${text}\nunix_socket_dir =${becomes}\n`);
  return file;
}

async function launch(program: Program, file: string, port: number): Promise<ChildProcess> {
  const child = spawnTied(program.path, [file], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: environmentOf(program),
  });
  let printed = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    printed = `${printed}${chunk}`.slice(-2_000);
  });
  await until(() => child.exitCode !== null || isOpen(port), { what: 'PgBouncer listens', everyMs: 50 });
  if (child.exitCode !== null) throw new Error(`PgBouncer ended at its start:\n${printed}`);
  return child;
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => socket.destroy());
    socket.once('error', () => {});
    socket.once('close', (failed) => resolve(!failed));
  });
}
