// graphile-worker in the fastest preset its documentation describes: a local queue of 500 and batched completions.
// It is installed in bench/peers/ and typed here, because a check-out without it must compile.
// Next room: peers/package.json.
import { createRequire } from 'node:module';
import type { Contestant } from '../contestant.ts';

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

const peers = createRequire(new URL('../peers/package.json', import.meta.url));
const { makeWorkerUtils, run, Logger } = peers('graphile-worker') as Graphile;

const jobs_per_call = 500;
const calls_in_flight = 4;

export const contestant: Contestant = {
  async prepare(url) {
    const utils = await makeWorkerUtils({ connectionString: url });
    await utils.migrate();
    await utils.release();
  },

  async fill(url, count, payload) {
    const utils = await makeWorkerUtils({ connectionString: url });
    let left = count;
    const caller = async () => {
      while (left > 0) {
        const size = Math.min(jobs_per_call, left);
        left -= size;
        await utils.addJobs(Array.from({ length: size }, () => ({ identifier: 'noop', payload })));
      }
    };
    await Promise.all(Array.from({ length: calls_in_flight }, caller));
    await utils.release();
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

  emptyQuery: `select not exists (select from graphile_worker._private_jobs) "empty"`,
};
