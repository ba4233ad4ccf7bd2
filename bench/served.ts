// Servers under load: a program started as a process of its own, requests sent to it, and what that cost in CPU.
// Invariants: load goes to loopback only and is bounded in time; only what was started here is ended.
// Next room: load.ts, the generator.
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { tied } from '../test/support/children.ts';
import { cpuOfServer, cpuOfTree } from './accounts.ts';
import type { Answer } from './contestant.ts';
import type { LoadOrder, LoadResult } from './load.ts';

/** A server under load: a process of its own, and those it has forked. */
export interface Server {
  pid: number;
  port: number;
  stop(): Promise<void>;
}

// A run that is interrupted leaves none of them behind; on Linux not even one that is killed.
const living = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of living) child.kill('SIGKILL');
});

/** Starts a program that prints "listens on http://…:port". */
export async function serve(
  words: string[],
  url: string,
  more: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const env = { PATH: process.env.PATH, DATABASE_URL: url, PORT: '0', ...more };
  const [program, rest] = tied(process.execPath, words, 'TERM');
  const child = spawn(program, rest, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  living.add(child);
  child.once('exit', () => living.delete(child));
  const port = await portOf(child);
  return {
    pid: child.pid as number,
    port,
    stop: () => stopped(child),
  };
}

/** What one round of load gave and cost; times are in µs for each request. */
export interface Round extends LoadResult {
  node_us: number;
  postgres_us: number;
}

/** Puts a server under load and counts what that took. */
export async function measure(
  server: Server,
  postmaster: number,
  order: Omit<LoadOrder, 'port'>,
): Promise<Round> {
  const node = cpuOfTree([server.pid]);
  const postgres = cpuOfServer(postmaster);
  const result = await load({ port: server.port, ...order });
  const answers = Object.values(result.statuses).reduce((sum, count) => sum + count, 0);
  return {
    ...result,
    node_us: (cpuOfTree([server.pid]) - node) / answers,
    postgres_us: (cpuOfServer(postmaster) - postgres) / answers,
  };
}

function portOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let printed = '';
    const timer = setTimeout(() => reject(new Error(`does not listen after 60 s: ${printed}`)), 60_000);
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      if (printed.length < 10_000) printed += chunk;
      const found = /listens on http:\/\/[^\s]*:(\d+)/.exec(printed);
      if (found === null) return;
      clearTimeout(timer);
      resolve(Number(found[1]));
    });
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${printed}`)));
  });
}

function stopped(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
  return gone.finally(() => clearTimeout(timer));
}

async function load(order: LoadOrder): Promise<LoadResult> {
  return answerFrom('./load.ts', order);
}

/** Starts a program beside this file that answers one order, and ends it with its answer. */
export async function answerFrom<Result>(file: string, order: object): Promise<Result> {
  const child = fork(pathOf(file), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const limit = setTimeout(() => child.kill('SIGKILL'), 90_000);
  try {
    return await new Promise((resolve, reject) => {
      child.once('message', ({ value, error }: Answer) =>
        error === undefined ? resolve(value as Result) : reject(new Error(error)),
      );
      // Not its exit, which may be seen before the last of a long answer.
      child.once('disconnect', () => reject(new Error(`${file} ended without an answer`)));
      child.send(order);
    });
  } finally {
    clearTimeout(limit);
  }
}

/** The path of a file beside this one. */
export function pathOf(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url));
}
