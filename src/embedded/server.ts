// Why this room exists: one PostgreSQL process from spawn to exit, with every wait limited.
// Invariant: a server that was started is either reported ready or ended before the call returns; on Linux it also
// ends when we are killed.
// Next room: postgres.ts, which decides whether to start one.
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import type { Cluster } from './cluster.ts';
import { quietEnvironment } from './command.ts';
import { commandLine, endsWithParent, type Footing } from './privilege.ts';
import { endProcess, LAUNCHER_SETTING } from './survivor.ts';

export interface Server {
  port: number;
  pid: number;
  /** Fast shutdown; open transactions are rolled back, committed ones are on disk. Idempotent. */
  stop(): Promise<void>;
}

export interface ServerOptions {
  cluster: Cluster;
  footing: Footing;
  settings: Record<string, string>;
  /** A pid in the lock file that is known to be no server: PostgreSQL looks past it. */
  stalePid: number | null;
  log: (line: string) => void;
  /** True: the server ends with this process where the system can arrange it. */
  tied: boolean;
  readyMs: number;
}

/** Why a start failed: only the last kind is worth telling a person, the others are worth another try. */
export type StartFailure = 'port-taken' | 'folder-taken' | 'memory-in-use' | 'failed';

export class ServerDidNotStart extends Error {
  readonly failure: StartFailure;

  constructor(failure: StartFailure, message: string) {
    super(message);
    this.failure = failure;
  }
}

const TAIL_LINES = 30;

/** Starts a server on a free loopback port and resolves once it accepts connections. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { footing, stalePid, tied, log } = options;
  const port = await freePort();
  const dying = tied ? await endsWithParent(process.platform) : [];
  const [command, args] = commandLine(footing.way, dying, serverCommand(options, port));
  const child = spawn(command, args, {
    // A session of its own: Ctrl-C in the terminal reaches us alone, and we stop it after our own drain.
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
    windowsHide: true,
    env: quietEnvironment(stalePid === null ? {} : { PG_GRANDPARENT_PID: String(stalePid) }),
  });
  await untilReady(child, options);
  const pid = child.pid!;
  let stopping: Promise<void> | undefined;
  child.once('exit', (code, signal) => {
    if (!stopping) log(`embedded PostgreSQL ended unasked (${signal ?? `exit code ${code}`})`);
  });
  return {
    port,
    pid,
    stop() {
      stopping ??= endChild(child);
      return stopping;
    },
  };
}

/** The words of the server itself. */
export function serverCommand({ cluster, footing, settings }: ServerOptions, port: number): string[] {
  const all = {
    lc_messages: 'C',
    timezone: 'UTC',
    log_timezone: 'UTC',
    [LAUNCHER_SETTING]: String(process.pid),
    ...settings,
  };
  return [
    footing.binaries.postgres,
    '-D',
    cluster.data,
    '-p',
    String(port),
    '-h',
    '127.0.0.1',
    '-k',
    '',
    ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ];
}

/** What the last lines of a server that gave up say about the cause. */
export function causeOf(lines: readonly string[]): StartFailure {
  const text = lines.join('\n');
  if (/lock file .* already exists/.test(text)) return 'folder-taken';
  if (/pre-existing shared memory block/.test(text)) return 'memory-in-use';
  if (/could not (bind|create any TCP\/IP sockets)/.test(text)) return 'port-taken';
  return 'failed';
}

/** A loopback port that is free now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => {
        if (address === null || typeof address === 'string') reject(new Error('no free port on 127.0.0.1'));
        else resolve(address.port);
      });
    });
  });
}

function untilReady(child: ChildProcess, { log, readyMs }: ServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const tail: string[] = [];
    let settled = false;
    const fail = (failure: StartFailure, reason: string) => {
      if (settled) return;
      settled = true;
      clearTimeout(limit);
      reject(
        new ServerDidNotStart(failure, `embedded PostgreSQL ${reason}; its last lines:\n${tail.join('\n')}`),
      );
    };
    const limit = setTimeout(() => {
      void endChild(child).then(
        () => fail('failed', `was not ready within ${readyMs} ms`),
        (error: Error) => fail('failed', `was not ready within ${readyMs} ms (${error.message})`),
      );
    }, readyMs);
    const lines = createInterface({ input: child.stderr! });
    lines.on('line', (line) => {
      tail.push(line);
      if (tail.length > TAIL_LINES) tail.shift();
      log(line);
      if (settled || !line.includes('ready to accept connections')) return;
      settled = true;
      clearTimeout(limit);
      resolve();
    });
    child.once('error', (error) => fail('failed', `could not be run: ${error.message}`));
    // 'close' comes after the last line was read; 'exit' may come before.
    child.once('close', (code, signal) =>
      fail(causeOf(tail), `ended at its start (${signal ?? `exit code ${code}`})`),
    );
  });
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await endProcess(child.pid);
  await exited;
}
