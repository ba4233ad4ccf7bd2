// Why this room exists: a test that is killed must not leave servers behind that disturb the next run.
// Invariant: every child started here dies with this process: at exit, at a signal, and on Linux also at kill -9.
// Next room: process.ts and redis.ts, which start their servers through it.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const living = new Set<ChildProcess>();
let watching = false;

/** Spawns a child that cannot outlive this process. */
export function spawnTied(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  watchOurEnd();
  const [first, rest] = tied(command, args, 'KILL');
  const child = spawn(first, rest, options);
  living.add(child);
  child.once('exit', () => living.delete(child));
  child.once('error', () => living.delete(child));
  return child;
}

/** The words that run a command so that it gets the signal when its parent dies; as they are where that is unknown. */
export function tied(command: string, args: readonly string[], signal: 'KILL' | 'TERM'): [string, string[]] {
  const setpriv = process.platform === 'linux' ? findProgram('setpriv') : null;
  return setpriv ? [setpriv, ['--pdeathsig', signal, '--', command, ...args]] : [command, [...args]];
}

/** Resolves with the exit code (null after a signal) once the child is gone; at once when it already is. */
export function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)));
}

/** Waits for the exit up to a limit; `gone: false` when it is still there. */
export async function exitWithin(
  child: ChildProcess,
  limitMs: number,
): Promise<{ gone: boolean; code: number | null }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, limitMs, 'late');
  });
  const code = await Promise.race([exitOf(child), late]);
  clearTimeout(timer);
  return code === 'late' ? { gone: false, code: null } : { gone: true, code };
}

/** The full path of a program on PATH, or null. */
export function findProgram(...names: string[]): string | null {
  for (const name of names) {
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      const path = join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not here: the next folder may have it.
      }
    }
  }
  return null;
}

function watchOurEnd(): void {
  if (watching) return;
  watching = true;
  process.once('exit', () => {
    for (const child of living) child.kill('SIGKILL');
  });
  // A signal ends a process without its 'exit' event unless somebody exits on purpose; node --test ends files so.
  process.once('SIGTERM', () => process.exit(143));
  process.once('SIGINT', () => process.exit(130));
}
