// Jobs enqueued one by one at a fixed rate, and the clock that all processes of a machine share.
// Invariants: an open loop, so a system that is slow is not asked less; a call that the generator itself makes late counts
// from when it was due; moments are spread at random within their intervals, so that no timer of a system beats with them.
// Next room: starts.ts, which joins what was enqueued with what was started.
import { setTimeout as pause } from 'node:timers/promises';
import type { Moment, Producer, Trickle, Trickled } from './contestant.ts';

const most_seconds = 60;
/** Timers fire up to a millisecond late; what is later than this is the fault of a generator that was kept busy. */
const late_ms = 3;

/** Milliseconds of a monotonic clock; comparable between processes. */
export function nowOfMachine(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Enqueues at a fixed rate and awaits every answer. */
export async function trickle(
  { per_second, warm_up_seconds, seconds }: Trickle,
  producer: Pick<Producer, 'enqueue'>,
): Promise<Trickled> {
  if (warm_up_seconds + seconds > most_seconds) throw new Error(`more than ${most_seconds} s of load`);
  // The first call opens connections; it is nobody's latency.
  const ids = [await producer.enqueue()];
  const interval = 1_000 / per_second;
  const warm = Math.round(warm_up_seconds * per_second);
  const count = warm + Math.round(seconds * per_second);
  const sent: Moment[] = [];
  const took: number[] = [];
  const enqueue = async (due: number, isMeasured: boolean) => {
    const now = nowOfMachine();
    const at = now - due > late_ms ? due : now;
    const id = await producer.enqueue();
    ids.push(id);
    if (!isMeasured) return;
    sent.push([id, at]);
    took.push(nowOfMachine() - at);
  };
  const cpu = process.cpuUsage();
  const calls: Promise<void>[] = [];
  const began = nowOfMachine();
  for (let n = 0; n < count; n++) {
    const due = began + (n + Math.random()) * interval;
    const wait = due - nowOfMachine();
    if (wait >= 1) await pause(wait);
    calls.push(enqueue(due, n >= warm));
  }
  await Promise.all(calls);
  const { user, system } = process.cpuUsage(cpu);
  return { sent, took, ids, node_us: user + system };
}
