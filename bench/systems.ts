// Who is compared, each in the fastest configuration its own documentation describes, and in words for the setup of a
// figure.
// Invariant: nobody is tuned past what its documentation says, and nobody, Errand included, is left at a slow default.
// Next room: contestants/, which hold the rest of each configuration.
import type { FigureOptions } from './figure.ts';
import { versionOf } from './peers.ts';
import type { Persistence } from './redis.ts';

interface Known {
  module: string;
  concurrency: number;
  redis?: Persistence;
}

// Each at its own best: Errand's slots are promises, graphile's are loops with a local queue behind them, pg-boss's are
// workers that fetch 1,000 at once.
export const systems = {
  errand: { module: 'errand', concurrency: 2_000 },
  'graphile-worker': { module: 'graphile', concurrency: 24 },
  'pg-boss': { module: 'pg-boss', concurrency: 2 },
  BullMQ: { module: 'bullmq', concurrency: 100, redis: 'none' },
  'BullMQ, AOF': { module: 'bullmq', concurrency: 100, redis: 'everysec' },
} as const satisfies Record<string, Known>;

export type System = keyof typeof systems;

/** Where a system stands for one measurement. */
export interface Place {
  module: string;
  concurrency: number;
  url: string;
  /** Process id of the server that holds its jobs. */
  server: number;
}

/** Makes an empty store for a system; `database` names it where it lives in Postgres. */
export async function placeFor(
  system: System,
  database: string,
  { ground, errand }: Pick<FigureOptions, 'ground' | 'errand'>,
): Promise<Place> {
  const { module, concurrency, redis }: Known = systems[system];
  if (redis !== undefined) {
    const { pid, database: empty } = await ground.redis(redis);
    return { module, concurrency, url: empty(), server: pid };
  }
  const name = system === 'errand' ? errand : module;
  return { module: name, concurrency, url: await ground.database(database), server: ground.pid };
}

/** The configuration of these systems, in words. */
export async function setupOf(
  compared: readonly System[],
  { ground }: Pick<FigureOptions, 'ground'>,
): Promise<Record<string, string>> {
  const words: Record<System, () => string | Promise<string>> = {
    errand: () => `in-process handler, ${systems.errand.concurrency} slots for each process`,
    'graphile-worker': () =>
      `${versionOf('graphile-worker')}: addJobs of 500, 4 calls in flight; concurrentJobs ${systems['graphile-worker'].concurrency}, localQueue.size 500, completeJobBatchDelay 0, failJobBatchDelay 0`,
    'pg-boss': () =>
      `${versionOf('pg-boss')}: insert of 500, 4 calls in flight; work with batchSize 1000, localConcurrency ${systems['pg-boss'].concurrency}, burstWhenBatchFull, LISTEN/NOTIFY, polling 0.5 s`,
    BullMQ: async () =>
      `${versionOf('bullmq')} on Redis ${(await ground.redis('none')).version} without persistence (nothing survives a crash): addBulk of 500, 4 calls in flight; one Worker for each process, concurrency ${systems.BullMQ.concurrency}, removeOnComplete { count: 0 }`,
    'BullMQ, AOF': () =>
      'the same, Redis with appendonly and appendfsync everysec (a crash may lose a second)',
  };
  const pairs = compared.map(async (system) => [system, await words[system]()] as const);
  return Object.fromEntries(await Promise.all(pairs));
}
