// BullMQ on Redis: one worker for each process with the concurrency its documentation recommends for much waiting
// (docs.bullmq.io/guide/workers/concurrency), finished jobs removed at once; whether Redis persists is the server's matter.
// Next room: ../redis.ts, the server.
import type { Contestant } from '../contestant.ts';
import { peer } from '../peers.ts';
import { inChunks } from './chunks.ts';

interface Queue {
  waitUntilReady(): Promise<unknown>;
  add(name: string, data: object): Promise<{ id: string }>;
  addBulk(jobs: { name: string; data: object }[]): Promise<unknown>;
  getJobCounts(): Promise<Record<string, number>>;
  close(): Promise<void>;
}

interface Worker {
  on(event: 'error', listener: (error: Error) => void): void;
  waitUntilReady(): Promise<unknown>;
  close(): Promise<void>;
}

interface BullMQ {
  Queue: new (name: string, options: object) => Queue;
  Worker: new (name: string, run: (job: { id: string }) => Promise<void>, options: object) => Worker;
}

const { Queue, Worker } = await peer<BullMQ>('bullmq');

const name = 'noop';

export const contestant: Contestant = {
  async prepare() {},

  async fill(url, count, data) {
    const queue = await open(url);
    const seconds = await inChunks(count, (size) =>
      queue.addBulk(Array.from({ length: size }, () => ({ name, data }))),
    );
    await queue.close();
    return seconds;
  },

  async produce(url, payload) {
    const queue = await open(url);
    return {
      enqueue: async () => (await queue.add(name, payload)).id,
      close: () => queue.close(),
    };
  },

  async work(url, concurrency, onRun) {
    const worker = new Worker(name, async ({ id }) => onRun(id), {
      connection: { ...addressOf(url), maxRetriesPerRequest: null },
      concurrency,
      removeOnComplete: { count: 0 },
    });
    worker.on('error', (error) => process.stderr.write(`BullMQ: ${error.message}\n`));
    await worker.waitUntilReady();
    return { stop: () => worker.close() };
  },

  async look(url) {
    const queue = await open(url);
    const left = async () => Object.values(await queue.getJobCounts()).reduce((sum, count) => sum + count, 0);
    return {
      isEmpty: async () => (await left()) === 0,
      // It keeps no history: what is not there any more is what it calls finished.
      finished: async (enqueued) => enqueued - (await left()),
      close: () => queue.close(),
    };
  },
};

async function open(url: string): Promise<Queue> {
  const queue = new Queue(name, { connection: addressOf(url) });
  await queue.waitUntilReady();
  return queue;
}

/** Where Redis listens, and which of its databases. */
export function addressOf(url: string): { host: string; port: number; db: number } {
  const { hostname, port, pathname } = new URL(url);
  return { host: hostname, port: Number(port), db: Number(pathname.slice(1)) };
}
