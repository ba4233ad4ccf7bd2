// Executes a start by having a thread call the handler, so that one that computes for seconds stops nothing else. What is said
// during the run travels as messages.
// Invariants: one start in a thread at a time, so a thread that crashes costs that start alone; one that does not stop when it
// is told to is ended after a short grace; a start holds its slot until its thread is free, so none waits for a thread.
// Next room: thread.ts, the other end.
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { failed, type Verdict } from '../../domain/outcome.ts';
import { type CallOptions, factsOf } from './call.ts';
import type { Handler } from './handlers.ts';
import { messageOf } from './judge.ts';
import { Reports } from './report.ts';
import { type Execute, type Running, stopReasons } from './run.ts';
import type { FromThread, Task, ToThread } from './thread.ts';

export interface ThreadOptions extends CallOptions {
  threads: number;
}

export interface Threads {
  execute: Execute;
  /** Ends all threads, whatever they do. */
  close(): Promise<void>;
}

/** How long a handler that was told to stop may take to do so: less than its lease outlasts its deadline. */
const grace_ms = 500;
const idle_ms = 60_000;

/** Builds the execution by handlers in threads, which are made when they are needed. */
export function threading(handlers: ReadonlyMap<string, Handler>, options: ThreadOptions): Threads {
  const pool = new Piscina<Task, Verdict>({
    filename: fileURLToPath(new URL(`./thread${extname(import.meta.url)}`, import.meta.url)),
    minThreads: 0,
    maxThreads: options.threads,
    idleTimeout: idle_ms,
    // Between two starts a thread's own event loop goes on, as it does in the process.
    atomics: 'disabled',
  });
  pool.on('error', (error) => options.onError('threads', error));

  async function inThread(running: Running, reports: Reports): Promise<Verdict> {
    const { job, signal } = running;
    const { port1: port, port2 } = new MessageChannel();
    const kill = new AbortController();
    let grace: NodeJS.Timeout | undefined;
    const onAbort = () => {
      say(port, { abort: messageOf(signal.reason) });
      grace = setTimeout(() => kill.abort(), grace_ms);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    port.on('message', (said: FromThread) => hear(said, reports, port));
    try {
      const task: Task = {
        module: handlers.get(job.type)?.module as string,
        facts: factsOf(job),
        payload: job.payload,
        options: job.options,
        checkpoint: job.checkpoint,
        limit: options.limit,
        port: port2,
      };
      return await pool.run(task, { signal: kill.signal, transferList: [port2] });
    } catch (error) {
      const why = kill.signal.aborted ? `it did not stop within ${grace_ms} ms` : messageOf(error);
      return failed('retryable', `the thread was ended: ${why}`);
    } finally {
      clearTimeout(grace);
      signal.removeEventListener('abort', onAbort);
      // What it said last may not have been heard yet.
      for (let last = receiveMessageOnPort(port); last !== undefined; last = receiveMessageOnPort(port)) {
        hear(last.message as FromThread, reports, port);
      }
      port.close();
    }
  }

  return {
    async execute(running) {
      const reports = new Reports(running, options);
      const verdict = await inThread(running, reports);
      await reports.finish();
      const { stopped } = running;
      // Who was asked to cancel may have finished all the same; after any other stop it is too late.
      if (stopped === null || stopped === 'cancelled') return verdict;
      return failed(stopped === 'deadline' ? 'timeout' : 'retryable', stopReasons[stopped]);
    },
    close: () => pool.destroy(),
  };
}

function hear(said: FromThread, reports: Reports, port: MessagePort): void {
  if ('progress' in said) reports.progress(said.progress);
  else {
    reports.checkpoint(said.checkpoint).then(
      () => say(port, { kept: said.n }),
      (error) => say(port, { refused: said.n, why: messageOf(error) }),
    );
  }
}

function say(port: MessagePort, message: ToThread): void {
  port.postMessage(message);
}
