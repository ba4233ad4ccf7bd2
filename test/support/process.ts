// Why this room exists: some promises only show on real processes: SIGTERM drains, kill -9 loses no job.
// Invariant: the service sees only the settings a test names; nothing of the developer's own environment decides.
// Next room: children.ts, which makes sure none of them is left behind.
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/embedded/server.ts';
import { exitOf, exitWithin, spawnTied } from './children.ts';
import { until } from './until.ts';

export interface ServiceOptions {
  /** DATABASE_URL, REDIS_URL, HOST and ERRAND_* for the service; none are inherited. */
  env?: Record<string, string>;
  /** Words after `main.ts`; default `serve`. */
  args?: readonly string[];
  /** Limit for GET /health/ready to answer 200; default 20 s. */
  readyMs?: number;
  /** False: return as soon as it was spawned, for starts that are meant to fail or to be slow. */
  awaitReady?: boolean;
  /** Working directory; default: the repository. */
  cwd?: string;
}

export interface Service {
  url: string;
  port: number;
  pid: number;
  child: ChildProcess;
  /** Everything it printed so far, standard output and error. */
  output(): string;
  /** Sends the signal (default SIGTERM) and returns the exit code, null when the signal itself ended it. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  /** Ends it with SIGKILL. */
  kill9(): Promise<void>;
}

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const STOP_MS = 40_000;
const TAIL = 6_000;

/** Starts the service as a real process on a free port and waits until it is ready. */
export async function startService(options: ServiceOptions = {}): Promise<Service> {
  const port = Number(options.env?.PORT ?? (await freePort()));
  const child = spawnTied(process.execPath, [MAIN, ...(options.args ?? ['serve'])], {
    cwd: options.cwd ?? REPOSITORY,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...neutralEnvironment(process.env), PORT: String(port), ...options.env },
  });
  let printed = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      printed += chunk;
    });
  }
  const service: Service = {
    url: `http://127.0.0.1:${port}`,
    port,
    pid: child.pid!,
    child,
    output: () => printed,
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      const { gone, code } = await exitWithin(child, STOP_MS);
      if (gone) return code;
      child.kill('SIGKILL');
      await exitOf(child);
      throw new Error(
        `the service ignored ${signal} for ${STOP_MS} ms; its last output:\n${printed.slice(-TAIL)}`,
      );
    },
    async kill9() {
      child.kill('SIGKILL');
      await exitOf(child);
    },
  };
  if (options.awaitReady !== false) await untilReady(service, options.readyMs ?? 20_000);
  return service;
}

/** An environment without anything that configures errand, Postgres or the test runner. */
export function neutralEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const ours = /^(ERRAND_|PG|NODE_TEST_CONTEXT$|NODE_V8_COVERAGE$|DATABASE_URL$|REDIS_URL$|HOST$|PORT$)/;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !ours.test(name)));
}

async function untilReady(service: Service, readyMs: number): Promise<void> {
  const { child, url } = service;
  try {
    const state = await until(
      async () => {
        if (child.exitCode !== null || child.signalCode !== null) return 'ended';
        const answer = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(2_000) });
        await answer.body?.cancel();
        return answer.status === 200 && 'ready';
      },
      { timeoutMs: readyMs, everyMs: 40, what: `GET ${url}/health/ready answers 200` },
    );
    if (state === 'ended') throw new Error(`the service ended with exit code ${child.exitCode}`);
  } catch (error) {
    await service.kill9();
    throw new Error(`${(error as Error).message}; its last output:\n${service.output().slice(-TAIL)}`);
  }
}
