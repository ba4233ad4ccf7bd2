// The Redis of a run, for BullMQ: once without persistence, which is its fastest, and once with the append-only file its
// documentation recommends (docs.bullmq.io/guide/going-to-production), which may lose a second.
// Invariant: loopback only, its files lie in the folder of the run, and it ends with this process, however that ends.
// Next room: ground.ts, which hands it out.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { freePort } from '../src/embedded/server.ts';
import { exitOf, exitWithin, tied } from '../test/support/children.ts';
import { environmentOf, versionOf } from '../test/support/debian.ts';
import { findRedis } from '../test/support/redis-binary.ts';

export type Persistence = 'none' | 'everysec';

export interface Redis {
  /** Process id of the server, for its CPU. */
  pid: number;
  version: string;
  /** The address of an empty database. */
  database(): string;
  stop(): Promise<void>;
}

const ready_ms = 15_000;
const databases = 1_024;

export async function startRedis(folder: string, persistence: Persistence): Promise<Redis> {
  const program = await findRedis();
  const port = await freePort();
  const place = join(folder, `redis-${persistence}`);
  await mkdir(place, { recursive: true });
  const settings = {
    port,
    bind: '127.0.0.1',
    dir: place,
    databases,
    save: '',
    'maxmemory-policy': 'noeviction',
    ...(persistence === 'none' ? { appendonly: 'no' } : { appendonly: 'yes', appendfsync: 'everysec' }),
  };
  const words = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = spawn(...tied(program.path, words, 'KILL'), {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: environmentOf(program),
  });
  await untilReady(child);
  let next = 0;
  return {
    pid: child.pid as number,
    version: /v=([\d.]+)/.exec(await versionOf(program, '--version'))?.[1] ?? 'of unknown version',
    database() {
      if (next === databases) throw new Error(`all ${databases} databases of Redis are in use`);
      return `redis://127.0.0.1:${port}/${next++}`;
    },
    async stop() {
      child.kill('SIGTERM');
      if ((await exitWithin(child, 5_000)).gone) return;
      child.kill('SIGKILL');
      await exitOf(child);
    },
  };
}

function untilReady(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => {
      clearTimeout(limit);
      child.kill('SIGKILL');
      reject(new Error(`redis-server ${reason}`));
    };
    const limit = setTimeout(() => fail(`was not ready within ${ready_ms} ms`), ready_ms);
    if (child.stdout) {
      createInterface({ input: child.stdout }).on('line', (line) => {
        if (!line.includes('Ready to accept connections')) return;
        clearTimeout(limit);
        resolve();
      });
    }
    child.once('error', (error) => fail(`could not be run: ${error.message}`));
    child.once('exit', (code) => fail(`ended with exit code ${code}`));
  });
}
