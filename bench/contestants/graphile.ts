// graphile-worker in the fastest preset its documentation describes (worker.graphile.org/docs/performance): a local queue
// of 500, completions batched without delay.
// Next room: pg-boss.ts.
import type { Contestant } from '../contestant.ts';
import { peer } from '../peers.ts';
import { inChunks } from './chunks.ts';
import { lookAt } from './look.ts';

interface Utils {
  migrate(): Promise<void>;
  addJob(identifier: string, payload: object): Promise<{ id: string }>;
  addJobs(specs: { identifier: string; payload: object }[]): Promise<unknown>;
  release(): Promise<void>;
}

interface Graphile {
  makeWorkerUtils(options: { connectionString: string }): Promise<Utils>;
  run(options: object): Promise<{ stop(): Promise<void> }>;
  Logger: new (factory: () => () => void) => object;
}

const { makeWorkerUtils, run, Logger } = await peer<Graphile>('graphile-worker');

export const contestant: Contestant = {
  async prepare(url) {
    const utils = await makeWorkerUtils({ connectionString: url });
    await utils.migrate();
    await utils.release();
  },

  async fill(url, count, payload) {
    const utils = await makeWorkerUtils({ connectionString: url });
    const seconds = await inChunks(count, (size) =>
      utils.addJobs(Array.from({ length: size }, () => ({ identifier: 'noop', payload }))),
    );
    await utils.release();
    return seconds;
  },

  async produce(url, payload) {
    const utils = await makeWorkerUtils({ connectionString: url });
    return {
      enqueue: async () => (await utils.addJob('noop', payload)).id,
      close: () => utils.release(),
    };
  },

  async work(url, concurrency, onRun) {
    const runner = await run({
      noHandleSignals: true,
      logger: new Logger(() => () => {}),
      preset: {
        worker: {
          connectionString: url,
          concurrentJobs: concurrency,
          maxPoolSize: concurrency + 2,
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
      taskList: {
        noop: (_payload: unknown, { job }: { job: { id: string } }) => {
          onRun(job.id);
        },
      },
    });
    return { stop: () => runner.stop() };
  },

  look: (url) =>
    lookAt(
      url,
      {
        empty: `select not exists (select from graphile_worker._private_jobs) "empty"`,
        finished: `select -count(*)::int finished from graphile_worker._private_jobs`,
      },
      false,
    ),
};
