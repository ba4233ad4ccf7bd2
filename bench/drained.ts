// One drain of a backlog by one or several processes of a contestant, and what it took.
// Invariants: the clock runs from the first handler call of any process until the store is seen empty, for all contestants
// alike; deliveries that stop short are reported, not waited for without end.
// Next room: contestants/stage.ts, which counts; delivery.ts, which judges.
import { setTimeout as pause } from 'node:timers/promises';
import type { Progress, Stage } from './contestant.ts';

export interface Drained {
  ids: string[];
  /** How many each process ran. */
  shares: number[];
  seconds: number;
  /** CPU of all workers, and of the server. */
  node_us: number;
  postgres_us: number;
}

export interface DrainOrder {
  /** What waits. */
  count: number;
  workers?: number;
  concurrency: number;
  /** Process id of the server. */
  server: number;
}

const look_ms = 5;
const stalled_ms = 1_000;
const patience_ms = 300_000;

/** Lets the processes run what waits in their common store. */
export async function drain(stages: readonly Stage[], order: DrainOrder): Promise<Drained> {
  const { count, workers = 1, concurrency, server } = order;
  const [leader] = stages as readonly [Stage];
  await Promise.all(stages.map((stage) => stage.ask('begin', { workers, concurrency, server })));
  await untilDelivered(stages, count);
  const end = await leader.ask('settled', {});
  const progress = await progressOf(stages);
  const starts = progress.flatMap(({ first }) => first ?? []).sort((a, b) => a.at - b.at);
  const start = starts[0] ?? { at: Number.NaN, server_us: Number.NaN };
  const collected = await Promise.all(stages.map((stage) => stage.ask('collect', {})));
  return {
    ids: collected.flatMap(({ ids }) => ids),
    shares: collected.map(({ ids }) => ids.length),
    seconds: (end.at - start.at) / 1_000,
    node_us: progress.reduce((sum, { first, node_us }) => sum + (first === null ? 0 : node_us), 0),
    postgres_us: end.server_us - start.server_us,
  };
}

/** Until all are delivered; or nothing moves and nothing is left, which is for the delivery check to judge. */
async function untilDelivered(stages: readonly Stage[], count: number): Promise<void> {
  const [leader] = stages as readonly [Stage];
  const giveUp = performance.now() + patience_ms;
  let last = 0;
  let movedAt = performance.now();
  for (;;) {
    const delivered = (await progressOf(stages)).reduce((sum, one) => sum + one.delivered, 0);
    if (delivered >= count) return;
    if (delivered > last) movedAt = performance.now();
    last = delivered;
    if (performance.now() - movedAt > stalled_ms) {
      if ((await leader.ask('empty', {})).isEmpty) return;
      movedAt = performance.now();
    }
    if (performance.now() > giveUp)
      throw new Error(`${delivered} of ${count} delivered in ${patience_ms} ms`);
    await pause(look_ms);
  }
}

function progressOf(stages: readonly Stage[]): Promise<Progress[]> {
  return Promise.all(stages.map((stage) => stage.ask('progress', {})));
}
