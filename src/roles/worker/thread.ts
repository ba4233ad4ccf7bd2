// Runs in a thread: calls the handler of one start, and carries between it and the process what is said on the way.
// Invariant: a handler that looks at its signal sees an abort even if it never lets the thread's event loop run.
// Next room: threads.ts, the other end.
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { JobOptions } from '../../domain/options.ts';
import type { Verdict } from '../../domain/outcome.ts';
import { readPayload } from '../../domain/payload.ts';
import {
  checkpointText,
  type Handler,
  type HandlerContext,
  provideErrand,
  type ReportText,
  reportText,
  type StartFacts,
  snooze,
} from './handlers.ts';
import { judge } from './judge.ts';

/** One start, as a thread gets it. */
export interface Task {
  module: string;
  facts: StartFacts;
  payload: string;
  options: Pick<JobOptions, 'content_type' | 'payload_base64'> | null;
  checkpoint: string | null;
  /** Most bytes of a result. */
  limit: number;
  port: MessagePort;
}

/** What the process says to a thread. */
export type ToThread = { abort: string } | { kept: number } | { refused: number; why: string };

/** What a thread says to the process. */
export type FromThread = { progress: ReportText } | { checkpoint: string; n: number };

provideErrand();

/** What the pool calls. */
export default async function runTask(task: Task): Promise<Verdict> {
  try {
    return await judge(async () => {
      const { default: handler } = (await import(task.module)) as { default: Handler };
      return handler.run(readPayload(task.payload, task.options), contextOf(task));
    }, task.limit);
  } finally {
    task.port.close();
  }
}

function contextOf({ facts, checkpoint, port }: Task): HandlerContext {
  const abort = new AbortController();
  const waiting = new Map<number, PromiseWithResolvers<void>>();
  let count = 0;
  const hear = (said: ToThread) => {
    if ('abort' in said) abort.abort(new Error(said.abort));
    else if ('kept' in said) waiting.get(said.kept)?.resolve();
    else waiting.get(said.refused)?.reject(new Error(said.why));
  };
  port.on('message', hear);
  const say = (message: FromThread) => port.postMessage(message);
  return {
    ...facts,
    last_checkpoint: checkpoint === null ? null : JSON.parse(checkpoint),
    signal: looking(abort.signal, () => {
      for (let said = receiveMessageOnPort(port); said !== undefined; said = receiveMessageOnPort(port)) {
        hear(said.message as ToThread);
      }
    }),
    progress: (value) => say({ progress: reportText(value) }),
    async checkpoint(value) {
      const text = checkpointText(value);
      const kept = Promise.withResolvers<void>();
      count += 1;
      waiting.set(count, kept);
      say({ checkpoint: text, n: count });
      await kept.promise;
    },
    snooze,
  };
}

/** Makes a signal look for news whenever it is asked: a loop that computes gives no other moment to hear of them. */
function looking(signal: AbortSignal, look: () => void): AbortSignal {
  const aborted = Object.getOwnPropertyDescriptor(AbortSignal.prototype, 'aborted')?.get;
  Object.defineProperty(signal, 'aborted', {
    get() {
      look();
      return aborted?.call(signal);
    },
  });
  signal.throwIfAborted = () => {
    look();
    AbortSignal.prototype.throwIfAborted.call(signal);
  };
  return signal;
}
