// Why this room exists: a killed parent can leave its PostgreSQL running, and two processes can share a data folder.
// Invariant: a process is believed to be ours only when its own command line names our folder; a zombie is dead.
// Next room: postgres.ts, which adopts, ends or passes over what is found here.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { runBounded } from './command.ts';

/** The setting through which a server tells who launched it: custom settings may carry any dotted name. */
export const LAUNCHER_SETTING = 'errand.launcher';

export interface LockFile {
  pid: number;
  port: number;
  /** starting, ready, standby or stopping; empty while the file is being written. */
  status: string;
}

export interface ProcessFacts {
  command: string;
  parent: number;
}

export type Found =
  | { kind: 'none' }
  /** The lock file names a process that is not a server of this folder; PostgreSQL is told to look past that pid. */
  | { kind: 'stale'; pid: number }
  /** A server of this folder runs; `orphan` when the process that launched it is gone. */
  | { kind: 'running'; lock: LockFile; orphan: boolean };

/** Looks for a server on a data folder. */
export async function findSurvivor(data: string): Promise<Found> {
  const text = await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => null);
  const lock = text === null ? null : parseLockFile(text);
  if (lock === null) return { kind: 'none' };
  const facts = await processFacts(lock.pid);
  if (facts === null || !servesFolder(facts.command, data)) return { kind: 'stale', pid: lock.pid };
  return { kind: 'running', lock, orphan: isOrphan(facts) };
}

/** Reads the lines of postmaster.pid; null when it holds no pid. */
export function parseLockFile(text: string): LockFile | null {
  const lines = text.split('\n');
  // A standalone backend writes its pid negative: whatever it is, it is not a server we can talk to.
  const pid = Number.parseInt(lines[0] ?? '', 10);
  if (!Number.isInteger(pid) || pid <= 0) return null;
  return { pid, port: Number.parseInt(lines[3] ?? '', 10) || 0, status: (lines[7] ?? '').trim() };
}

/** True when a command line is that of a server on this folder; unknown command lines (Windows) get the benefit. */
export function servesFolder(command: string, data: string): boolean {
  return command === '' || `${command} `.includes(` -D ${data} `);
}

/** True when the parent is no longer the process the server was launched by. */
export function isOrphan({ command, parent }: ProcessFacts): boolean {
  const launcher = new RegExp(`${LAUNCHER_SETTING.replace('.', '\\.')}=(\\d+)`).exec(command)?.[1];
  return launcher !== undefined && Number(launcher) !== parent;
}

/** Command line and parent of a process; null when it is dead or a zombie nobody reaped. */
export async function processFacts(pid: number): Promise<ProcessFacts | null> {
  if (!exists(pid)) return null;
  if (process.platform === 'linux') return factsFromProc(pid);
  if (process.platform === 'win32') return { command: '', parent: 0 };
  const { ok, output } = await runBounded('ps', ['-o', 'stat=,ppid=,command=', '-ww', '-p', String(pid)], {
    timeoutMs: 10_000,
  });
  const match = /^(\S+)\s+(\d+)\s+(.*)$/s.exec(output);
  if (!ok || match === null || match[1]?.startsWith('Z')) return null;
  return { parent: Number(match[2]), command: match[3] ?? '' };
}

/** Asks a server to shut down and waits until it is gone, with growing force: fast, immediate, killed. */
export async function endProcess(pid: number, { fastMs = 15_000, immediateMs = 5_000 } = {}): Promise<void> {
  for (const [signal, waitMs] of [
    ['SIGINT', fastMs],
    ['SIGQUIT', immediateMs],
    ['SIGKILL', immediateMs],
  ] as const) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw error;
    }
    if (await isGone(pid, waitMs)) return;
  }
  throw new Error(
    `embedded PostgreSQL (process ${pid}) does not end, not even killed; end it by hand and start again`,
  );
}

/** Waits up to `waitMs` for a process to be dead or a zombie. */
export async function isGone(pid: number, waitMs: number): Promise<boolean> {
  const until = performance.now() + waitMs;
  while ((await processFacts(pid)) !== null) {
    if (performance.now() > until) return false;
    await pause(25);
  }
  return true;
}

async function factsFromProc(pid: number): Promise<ProcessFacts | null> {
  try {
    const [stat, words] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'utf8'),
      readFile(`/proc/${pid}/cmdline`, 'utf8'),
    ]);
    return parseProcStat(stat, words);
  } catch {
    return null;
  }
}

/** Reads /proc/<pid>/stat and cmdline; the name in parentheses may itself hold spaces and parentheses. */
export function parseProcStat(stat: string, cmdline: string): ProcessFacts | null {
  const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (state === undefined || state === 'Z' || state === 'X') return null;
  const command = cmdline.split('\0').join(' ').trim();
  // Processes without a command line are kernel threads: never ours, though servesFolder would forgive them.
  return { parent: Number(parent), command: command === '' ? `[kernel thread]` : command };
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
