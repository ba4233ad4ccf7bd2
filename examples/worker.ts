// A pull worker in TypeScript: the client in clients/typescript leases, sends heartbeats and reports; what is left is the
// function. Node 24 runs this file as it is. Settings: ERRAND_URL, QUEUES, SLOTS, LEASE_SECONDS.
// Next: docs/guides/pull-workers.md; worker.py does the same without a library.
import { setTimeout as pause } from 'node:timers/promises';
import { Errand, JobFailed, type Run, Worker } from '../clients/typescript/src/index.ts';

const { ERRAND_URL = 'http://127.0.0.1:8080', QUEUES = '', SLOTS = '4', LEASE_SECONDS = '30' } = process.env;

const worker = new Worker(new Errand({ url: ERRAND_URL }), {
  name: `typescript-${process.pid}`,
  queues: QUEUES.split(',').filter((name) => name !== ''),
  handlers: { wordcount: countWords },
  slots: Number(SLOTS),
  leaseSeconds: Number(LEASE_SECONDS),
  // What still runs at SIGTERM is given back at once.
  stopSeconds: 0,
  onEnd: ({ id }, how) =>
    console.log(`job ${id} ${how === 'lost' ? 'lost, what came of it is dropped' : how}`),
});
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => worker.stop());
await worker.run();

/** The payload is a text, or `{"text": …, "pause_seconds": …}` to pretend that the work is long. */
async function countWords(payload: string | { text: string; pause_seconds?: number }, run: Run) {
  console.log(`job ${run.id} started`);
  const { text, pause_seconds = 0 } = typeof payload === 'string' ? { text: payload } : (payload ?? {});
  if (typeof text !== 'string')
    throw new JobFailed('permanent', 'the payload must be a text, or have one as its "text"');
  await pause(pause_seconds * 1_000, undefined, { signal: run.signal });
  return { words: text.split(/\s+/).filter((word) => word !== '').length };
}
