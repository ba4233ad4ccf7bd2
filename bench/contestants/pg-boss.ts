// pg-boss in the fastest way its documentation describes (pgboss.io/api/workers): batches of 1,000 fetched in a burst as
// long as they come back full, two workers so that one fetches while the other completes; NOTIFY on, or off
// with the word `polling`; polling at its floor.
// Next room: bullmq.ts.
import type { Contestant } from '../contestant.ts';
import { peer } from '../peers.ts';
import { inChunks } from './chunks.ts';
import { lookAt } from './look.ts';

interface Boss {
  on(event: 'error', listener: (error: Error) => void): void;
  start(): Promise<unknown>;
  stop(options: object): Promise<void>;
  createQueue(name: string, options?: object): Promise<void>;
  send(name: string, data: object): Promise<string | null>;
  insert(name: string, jobs: { data: object }[]): Promise<unknown>;
  work(name: string, options: object, handler: (jobs: { id: string }[]) => Promise<void>): Promise<string>;
}

interface PgBoss {
  PgBoss: new (options: object) => Boss;
}

const { PgBoss } = await peer<PgBoss>('pg-boss');

const queue = 'noop';
const batch_size = 1_000;
const notify = process.argv[4] !== 'polling';

export const contestant: Contestant = {
  async prepare(url) {
    const boss = await start(url);
    await boss.createQueue(queue, { notify });
    await stop(boss);
  },

  async fill(url, count, data) {
    const boss = await start(url);
    const seconds = await inChunks(count, (size) =>
      boss.insert(
        queue,
        Array.from({ length: size }, () => ({ data })),
      ),
    );
    await stop(boss);
    return seconds;
  },

  async produce(url, payload) {
    const boss = await start(url);
    return {
      async enqueue() {
        const id = await boss.send(queue, payload);
        if (id === null) throw new Error('pg-boss took no job');
        return id;
      },
      close: () => stop(boss),
    };
  },

  async work(url, concurrency, onRun) {
    const boss = await start(url);
    const options = {
      batchSize: batch_size,
      localConcurrency: concurrency,
      burstWhenBatchFull: true,
      pollingIntervalSeconds: 0.5,
      notifyPollingIntervalSeconds: 0.5,
    };
    await boss.work(queue, options, async (jobs) => {
      for (const { id } of jobs) onRun(id);
    });
    return { stop: () => stop(boss) };
  },

  look: (url) =>
    lookAt(url, {
      empty: `select not exists (select from pgboss.job where name = '${queue}' and state < 'completed') "empty"`,
      finished: `select count(*)::int finished from pgboss.job where name = '${queue}' and state = 'completed'`,
    }),
};

async function start(url: string): Promise<Boss> {
  const boss = new PgBoss({ connectionString: url, useListenNotify: notify });
  boss.on('error', (error) => process.stderr.write(`pg-boss: ${error.message}\n`));
  await boss.start();
  return boss;
}

function stop(boss: Boss): Promise<void> {
  return boss.stop({ graceful: true, timeout: 10_000 });
}
