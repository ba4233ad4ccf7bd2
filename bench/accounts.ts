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
  return cpuOfTree([postmaster]);
}

/** CPU time of these processes and all their descendants, those that have ended included, in µs. */
export function cpuOfTree(roots: readonly number[]): number {
  if (roots.some((root) => statOf(root) === undefined)) return Number.NaN;
  const stats = new Map<number, Stat>();
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? statOf(Number(name)) : undefined;
    if (stat !== undefined) stats.set(Number(name), stat);
  }
  const isOurs = (pid: number): boolean =>
    roots.includes(pid) || (stats.has(pid) && isOurs((stats.get(pid) as Stat).parent));
  let sum = 0;
  for (const [pid, stat] of stats) if (isOurs(pid)) sum += stat.own_us + stat.reaped_us;
  return sum;
}

/** CPU time of everything on this machine, in µs. */
export function cpuOfMachine(): number {
  let text: string;
  try {
    text = readFileSync('/proc/stat', 'utf8');
  } catch {
    return Number.NaN;
  }
  // user nice system idle iowait irq softirq steal: see proc(5).
  const [user, nice, system, , , irq, softirq, steal] = (text.split('\n', 1)[0] ?? '')
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const ticks = [user, nice, system, irq, softirq, steal].reduce<number>((sum, one) => sum + (one ?? 0), 0);
  return ticks * us_per_tick;
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
