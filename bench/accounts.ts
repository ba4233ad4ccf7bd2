// What processes have consumed, from the accounts of the system. CPU time is what a shared machine distorts least.
// Invariant: where the system keeps no such accounts the answer is NaN, never 0.
// Next room: the figures, which print µs for each job.
import { readdirSync, readFileSync } from 'node:fs';

// Fixed by the kernel interface, whatever its own clock is: see proc(5).
const us_per_tick = 10_000;

interface Stat {
  parent: number;
  own_us: number;
  /** Of children that have ended and were waited for. */
  reaped_us: number;
}

/** CPU time of one process, in µs. */
export function cpuOf(pid: number): number {
  return statOf(pid)?.own_us ?? Number.NaN;
}

/** CPU time of a PostgreSQL server and all its backends, those that have ended included, in µs. */
export function cpuOfServer(postmaster: number): number {
  const server = statOf(postmaster);
  if (server === undefined) return Number.NaN;
  const living = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => statOf(Number(name)))
    .filter((stat) => stat?.parent === postmaster)
    .reduce((sum, stat) => sum + (stat as Stat).own_us, 0);
  return server.own_us + server.reaped_us + living;
}

function statOf(pid: number): Stat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name of a program may hold blanks and parentheses: count from the last one.
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const [parent, user, system, reapedUser, reapedSystem] = [1, 11, 12, 13, 14].map((i) => fields[i] ?? 0);
  return {
    parent: parent as number,
    own_us: ((user as number) + (system as number)) * us_per_tick,
    reaped_us: ((reapedUser as number) + (reapedSystem as number)) * us_per_tick,
  };
}
