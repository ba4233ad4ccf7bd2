// Why this room exists: resident memory also shows what the collector has not looked at yet. What a process really holds is
// asked of it through its inspector, after a collection; the most it had resident is watched from outside.
// Next room: the drills overload and frozen.
import { readFileSync } from 'node:fs';
import type { Service } from './process.ts';

/** Settings of a service that can be looked into. */
export const openInside = { NODE_OPTIONS: '--inspect=127.0.0.1:0 --expose-gc' };

export interface Memory {
  /** Objects and buffers after a collection, in MiB: at the start, at most and how much more that is. */
  held_before_mib: number;
  held_most_mib: number;
  growth_mib: number;
  resident_before_mib: number;
  resident_most_mib: number;
}

export interface Inside {
  /** Looks again; what grows is seen at one of the looks. */
  look(): Promise<void>;
  stop(): Memory;
}

/** Watches the memory of a service that was started with `openInside`. */
export async function watchMemory({ output, pid }: Pick<Service, 'output' | 'pid'>): Promise<Inside> {
  const address = /ws:\/\/\S+/.exec(output())?.[0];
  if (address === undefined) throw new Error('the service has no inspector; start it with openInside');
  const socket = new WebSocket(address);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error('the inspector does not answer'));
  });
  const waiting = new Map<number, (result: unknown) => void>();
  socket.onmessage = ({ data }) => {
    const { id, result } = JSON.parse(data as string) as { id: number; result: unknown };
    waiting.get(id)?.(result);
  };
  let asked = 0;
  const ask = (method: string, params: object = {}): Promise<unknown> => {
    const id = ++asked;
    socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve) => waiting.set(id, resolve));
  };
  const held = async (): Promise<number> => {
    // One collection, not the inspector's own command: that makes up to seven, and who is measured stands still meanwhile.
    const expression = '{ gc(); const { heapUsed, external } = process.memoryUsage(); heapUsed + external }';
    const { result } = (await ask('Runtime.evaluate', { expression })) as { result: { value: number } };
    return Math.round(result.value / 2 ** 20);
  };
  const before = await held();
  const resident = residentMib(pid);
  let most = before;
  let residentMost = resident;
  const timer = setInterval(() => {
    residentMost = Math.max(residentMost, residentMib(pid));
  }, 500);
  return {
    async look() {
      most = Math.max(most, await held());
    },
    stop() {
      clearInterval(timer);
      socket.close();
      return {
        held_before_mib: before,
        held_most_mib: most,
        growth_mib: most - before,
        resident_before_mib: resident,
        resident_most_mib: Math.max(residentMost, residentMib(pid)),
      };
    },
  };
}

/** NaN where the system does not tell it. */
function residentMib(pid: number): number {
  try {
    const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Math.round(Number(kib) / 1_024);
  } catch {
    return Number.NaN;
  }
}
