// Why this room exists: tests take Redis away, bring it back and freeze it, so each needs a server of its own.
// Invariant: loopback only, nothing written to disk, and no server outlives the test process.
// Next room: redis-binary.ts, which finds the program.
import type { ChildProcess } from 'node:child_process';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { freePort } from '../../src/embedded/server.ts';
import { exitOf, exitWithin, spawnTied } from './children.ts';
import { environmentOf, type Program } from './debian.ts';
import { findRedis } from './redis-binary.ts';

export interface TestRedis {
  url: string;
  port: number;
  /** Ends it as an operator would. Idempotent. */
  stop(): Promise<void>;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again on the same port, empty. */
  restart(): Promise<void>;
  /** Stops it from answering while its connections stay open, until `thaw`. */
  freeze(): void;
  thaw(): void;
}

const READY_MS = 15_000;

/** Starts a real Redis (or Valkey) on a free or a given port. */
export async function startRedis({ port: wanted }: { port?: number } = {}): Promise<TestRedis> {
  const binary = await findRedis();
  const port = wanted ?? (await freePort());
  let child = await launch(binary, port);
  const end = async (signal: NodeJS.Signals) => {
    // A frozen server would keep a SIGTERM for later.
    child.kill('SIGCONT');
    child.kill(signal);
    if (!(await exitWithin(child, 5_000)).gone) {
      child.kill('SIGKILL');
      await exitOf(child);
    }
  };
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    async restart() {
      await end('SIGTERM');
      child = await launch(binary, port);
    },
    freeze() {
      child.kill('SIGSTOP');
    },
    thaw() {
      child.kill('SIGCONT');
    },
  };
}

async function launch(program: Program, port: number): Promise<ChildProcess> {
  const child = spawnTied(
    program.path,
    ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--daemonize', 'no'],
    {
      cwd: tmpdir(),
      stdio: ['ignore', 'pipe', 'pipe'],
      env: environmentOf(program),
    },
  );
  await untilReady(child, port);
  return child;
}

function untilReady(child: ChildProcess, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const lines: string[] = [];
    const fail = (reason: string) => {
      clearTimeout(limit);
      child.kill('SIGKILL');
      reject(
        new Error(`redis-server on port ${port} ${reason}; its last lines:\n${lines.slice(-10).join('\n')}`),
      );
    };
    const limit = setTimeout(() => fail(`was not ready within ${READY_MS} ms`), READY_MS);
    const read = (line: string) => {
      lines.push(line);
      if (!line.includes('Ready to accept connections')) return;
      clearTimeout(limit);
      resolve();
    };
    createInterface({ input: child.stdout! }).on('line', read);
    createInterface({ input: child.stderr! }).on('line', read);
    child.once('error', (error) => fail(`could not be run: ${error.message}`));
    child.once('close', (code) => fail(`ended with exit code ${code}`));
  });
}
