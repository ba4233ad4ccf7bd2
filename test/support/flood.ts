// Why this room exists: overload shows only when arrivals do not wait for answers, and from a process of its own, so that
// the one who measures is not who is measured. `flood` starts flood-child.ts and adds up what it saw.
// Invariants: a request that found no free connection counts from when it should have been sent, so nothing that waited
// is left out; `kept_up` says whether the generator was the one who was late.
// Next room: flood-child.ts, the generator; the drills overload and frozen.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface FloodOrder {
  port: number;
  body: string;
  seconds: number;
  /** Connections at most; with no rate all of them ask all the time, each when its last answer is there. */
  connections: number;
  /** Requests a second, whatever becomes of earlier ones. */
  rate?: number;
  /** Begins each Idempotency-Key, which its number ends; absent: no keys. */
  keys?: string;
  /** Sends just these numbers, each once. */
  numbers?: readonly number[];
  /** Called when the connections stand and nothing was sent yet. */
  onConnected?: () => void;
}

/** What an answer meant. */
export const outcomes = ['accepted', 'refused', 'unknown', 'other'] as const;
export type Outcome = (typeof outcomes)[number];

/** What the child tells; the arrays are by the order of the answers. Times are in ms, `at` from the start. */
export interface FloodTold {
  /** Wall clock, to be compared with other processes. */
  began_at: number;
  numbers: Uint32Array;
  at: Float64Array;
  ms: Float64Array;
  outcome: Uint8Array;
  /** How late each round of the generator came. */
  late: Float64Array;
  /** CPU time of the generator. */
  cpu_ms: number;
  /** 503s that did not say when to come again. */
  rude: number;
  others: Record<string, number>;
}

export interface Flood extends FloodTold {
  count(outcome: Outcome): number;
  /** Quantile of the times of answers, of one outcome or all, to what was sent within these ms. */
  quantile(share: number, from?: number, to?: number, outcome?: Outcome): number;
  /** Answers a second that came with this outcome, by the second in which they were sent. */
  perSecond(outcome: Outcome): number[];
  /** Whether the generator itself was at most once in a hundred rounds more than 50 ms late. */
  kept_up: boolean;
  numbersOf(outcome: Outcome): number[];
}

const program = fileURLToPath(new URL('./flood-child.ts', import.meta.url));

/** Floods a service on loopback and tells of every answer. */
export async function flood({ onConnected, ...order }: FloodOrder): Promise<Flood> {
  const child = fork(program, { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const limit = setTimeout(() => child.kill('SIGKILL'), (order.seconds + 60) * 1_000);
  try {
    const told = await new Promise<FloodTold>((resolve, reject) => {
      child.on('message', (message) => {
        if (message === 'connected') onConnected?.();
        else resolve(message as FloodTold);
      });
      child.once('exit', (code, signal) => reject(new Error(`the generator ended with ${code ?? signal}`)));
      child.send(order);
    });
    return adding(told, order);
  } finally {
    clearTimeout(limit);
    child.kill('SIGKILL');
  }
}

function adding(told: FloodTold, order: FloodOrder): Flood {
  const picked = (from: number, to: number, outcome?: Outcome): number[] => {
    const wanted = outcome === undefined ? null : outcomes.indexOf(outcome);
    const indexes: number[] = [];
    told.at.forEach((at, i) => {
      if (at >= from && at < to && (wanted === null || told.outcome[i] === wanted)) indexes.push(i);
    });
    return indexes;
  };
  const sortedLate = told.late.slice().sort();
  return {
    ...told,
    count: (outcome) => picked(0, Number.POSITIVE_INFINITY, outcome).length,
    quantile(share, from = 0, to = Number.POSITIVE_INFINITY, outcome) {
      const times = Float64Array.from(picked(from, to, outcome), (i) => told.ms[i] as number).sort();
      return times.length === 0 ? 0 : (times[Math.ceil(share * times.length) - 1] as number);
    },
    perSecond(outcome) {
      const seconds = new Array<number>(Math.ceil(order.seconds)).fill(0);
      for (const i of picked(0, order.seconds * 1_000, outcome)) {
        const second = Math.floor((told.at[i] as number) / 1_000);
        seconds[second] = (seconds[second] ?? 0) + 1;
      }
      return seconds;
    },
    kept_up: (sortedLate[Math.ceil(0.99 * sortedLate.length) - 1] ?? 0) <= 50,
    numbersOf: (outcome) =>
      picked(0, Number.POSITIVE_INFINITY, outcome).map((i) => told.numbers[i] as number),
  };
}
