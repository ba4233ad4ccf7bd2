// A pull worker in TypeScript: the client in clients/typescript leases, sends heartbeats and reports; a worker of your own is
// one function, `countWords` below. Node 24 runs this file as it is. Words after its name are a command to run instead:
// TYPE=render node examples/worker.ts ./render.sh
// Settings: ERRAND_URL, TYPE, SLOTS, LEASE_SECONDS. Next: docs/guides/pull-workers.md; worker.py, which has no library.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { Errand, type Handler, JobFailed, Worker } from '../clients/typescript/src/index.ts';

const { ERRAND_URL = 'http://127.0.0.1:8080', TYPE = 'wordcount' } = process.env;
const { SLOTS = '4', LEASE_SECONDS = '30' } = process.env;
const words = process.argv.slice(2);

const worker = new Worker(new Errand({ url: ERRAND_URL }), {
  name: `typescript-${process.pid}`,
  handlers: { [TYPE]: words.length > 0 ? command(words) : countWords },
  slots: Number(SLOTS),
  leaseSeconds: Number(LEASE_SECONDS),
  // What still runs at SIGTERM is given back at once.
  stopSeconds: 0,
  parse: exact,
  onEnd: ({ id }, how) =>
    console.log(`job ${id} ${how === 'lost' ? 'lost, what came of it is dropped' : how}`),
});
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => worker.stop());
console.log(`waiting for jobs of type ${TYPE} at ${ERRAND_URL}`);
await worker.run();

/** The payload is a text, the result how many words it has. */
function countWords(payload: unknown): number {
  if (typeof payload !== 'string') throw new JobFailed('permanent', 'the payload must be a text');
  return payload.split(/\s+/).filter((word) => word !== '').length;
}

/**
 * Work that a program does: it gets the payload on its standard input and prints the result, both JSON. Exit code 0
 * completes the job, 65 (bad data) ends it for good, any other is tried again.
 */
function command([program = '', ...rest]: string[]): Handler {
  return async (payload: unknown, { signal }) => {
    // A group of its own, to end what it starts along with it.
    const child = spawn(program, rest, { detached: true });
    const end = () => {
      try {
        process.kill(-(child.pid as number), 'SIGTERM');
      } catch {
        // It has just ended by itself.
      }
    };
    child.once('spawn', () => (signal.aborted ? end() : signal.addEventListener('abort', end)));
    child.stdin.on('error', () => {}); // it need not read its input
    child.stdin.end(JSON.stringify(payload));
    const streams = [text(child.stdout), text(child.stderr)] as const;
    const [code] = await once(child, 'close').finally(() => signal.removeEventListener('abort', end));
    const [printed, said] = await Promise.all(streams);
    if (code === 0) {
      try {
        return exact(printed);
      } catch {
        throw new JobFailed('permanent', 'what the command printed is no JSON');
      }
    }
    signal.throwIfAborted();
    throw new JobFailed(code === 65 ? 'permanent' : 'retryable', `exit code ${code}: ${said}`);
  };
}

/** JSON.parse that keeps the numbers it would round, so that they leave as they came. */
function exact(json: string): unknown {
  // Newer than the library of TypeScript.
  const { rawJSON } = JSON as unknown as { rawJSON(json: string): unknown };
  return JSON.parse(json, (_, value: unknown, context?: { source: string }) =>
    typeof value === 'number' && context && String(value) !== context.source
      ? rawJSON(context.source)
      : value,
  );
}
