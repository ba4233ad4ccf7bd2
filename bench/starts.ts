// How soon a job starts: one process enqueues at a fixed rate, another runs a worker, and both name moments on the clock
// they share.
// Invariants: delivered = unique = enqueued, or there is nothing to tell; nothing else runs meanwhile but the database.
// Next room: contestants/stage.ts, which is both processes; figures/latency.ts and figures/rates.ts, which ask.
import { cpuOf, cpuOfServer } from './accounts.ts';
import { enter, type Stage, type Trickle } from './contestant.ts';
import { checkDelivery } from './delivery.ts';
import type { FigureOptions } from './figure.ts';
import { quantile } from './measure.ts';
import { pathOf, type Server, serve } from './served.ts';
import { placeFor, type System } from './systems.ts';

/** How a system is asked. */
export interface Way {
  system: System;
  /** For the module of the contestant. */
  words?: readonly string[];
  /** Whether jobs are enqueued at its HTTP API, which is then a process of its own. */
  overHttp?: boolean;
}

/** What one run gave; from the enqueue call to the first line of the handler, in ms, and µs for each job. */
export interface Starts {
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  node_us: number;
  /** Of Postgres, or of Redis. */
  store_us: number;
}

/** Enqueues at the rate and says how soon the jobs started and what all of it cost. */
export async function startsOf(
  options: Pick<FigureOptions, 'ground' | 'errand'>,
  database: string,
  { system, words = [], overHttp = false }: Way,
  trickle: Trickle,
): Promise<Starts> {
  const { module, concurrency, url, server: store } = await placeFor(system, database, options);
  const worker = enter(module, url, ...words);
  let server: Server | undefined;
  let caller: Stage | undefined;
  try {
    await worker.ask('prepare', {});
    if (overHttp) server = await serve([pathOf('../src/main.ts'), 'serve'], url, { ERRAND_ROLES: 'api' });
    caller = server === undefined ? enter(module, url, ...words) : enter('http', urlOf(server));
    await worker.ask('begin', { workers: 1, concurrency });
    const used = {
      store: cpuOfServer(store),
      server: server === undefined ? 0 : cpuOf(server.pid),
    };
    const trickled = await caller.ask('trickle', trickle);
    const store_us = cpuOfServer(store) - used.store;
    // Callers of an API are somebody else's process; with a library they are the one that pays for it.
    const asking_us = server === undefined ? trickled.node_us : cpuOf(server.pid) - used.server;
    const { ids, starts, node_us } = await worker.ask('collect', { count: trickled.ids.length });
    checkDelivery(system, { enqueued: trickled.ids.length, sent: trickled.ids, ids });
    const startedAt = new Map(starts);
    const waits = Float64Array.from(trickled.sent, ([id, at]) => (startedAt.get(id) as number) - at).sort();
    return {
      p50_ms: quantile(waits, 0.5),
      p95_ms: quantile(waits, 0.95),
      p99_ms: quantile(waits, 0.99),
      node_us: (asking_us + node_us) / ids.length,
      store_us: store_us / ids.length,
    };
  } finally {
    await Promise.all([worker.leave(), caller?.leave(), server?.stop()]);
  }
}

function urlOf({ port }: Server): string {
  return `http://127.0.0.1:${port}`;
}
