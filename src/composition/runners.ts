// What runs jobs in a process: handlers in the main thread, handlers in threads of their own, and pushes to targets. Each
// claims only the lanes it serves and has slots of its own, so none of them can starve another.
// Next room: roles/worker/worker.ts, which all three are.
import type { Config } from '../config.ts';
import { isPushed } from '../domain/options.ts';
import { type CallOptions, calling } from '../roles/worker/call.ts';
import type { Handler } from '../roles/worker/handlers.ts';
import { type PushOptions, pushing } from '../roles/worker/pusher.ts';
import { sending } from '../roles/worker/target.ts';
import { threading } from '../roles/worker/threads.ts';
import { type Worker, type WorkerOptions, worker } from '../roles/worker/worker.ts';

/** What is the same for every way to run a job. */
type Hands = Omit<WorkerOptions, 'name' | 'serves' | 'execute' | 'source' | 'concurrency'>;

export interface Hiring extends Pick<PushOptions, 'secrets' | 'seal' | 'release' | 'onAnswered'> {
  config: Config;
  hands: Hands;
  handlers: ReadonlyMap<string, Handler>;
  progress: CallOptions['progress'];
  onDropped: CallOptions['onDropped'];
}

/** Makes the runners that have something to run; `close` ends threads and connections once they have stopped. */
export function hiring(options: Hiring): { runners: readonly Worker[]; close(): Promise<void> } {
  const { config, hands, handlers, progress, onDropped, ...pushes } = options;
  const { here, threaded } = Object.groupBy(handlers, ([, handler]) =>
    handler.thread ? 'threaded' : 'here',
  );
  const called = new Map(here);
  const limit = config.ERRAND_PAYLOAD_LIMIT_BYTES;
  const calls = { progress, limit, onError: hands.onError, onDropped };
  const handlerRunner = worker({
    ...hands,
    name: 'handlers',
    serves: (lane) => called.has(lane.route),
    execute: calling(called, calls),
    source: 'handler',
    concurrency: config.ERRAND_HANDLER_CONCURRENCY,
  });
  const inThreads = new Map(threaded);
  const threads = threading(inThreads, { ...calls, threads: config.handlerThreads });
  const threadRunner = worker({
    ...hands,
    name: 'threads',
    serves: (lane) => inThreads.has(lane.route),
    execute: threads.execute,
    source: 'handler',
    concurrency: config.handlerThreads,
  });
  const sender = sending({
    policy: config.privateTargets,
    connections: config.ERRAND_PUSH_CONCURRENCY,
    bodyLimit: config.ERRAND_PAYLOAD_LIMIT_BYTES,
  });
  const pushRunner = worker({
    ...hands,
    name: 'pusher',
    serves: (lane) => isPushed(lane.route),
    execute: pushing({ sender, resultLimit: config.ERRAND_PAYLOAD_LIMIT_BYTES, ...pushes }),
    source: 'target',
    concurrency: config.ERRAND_PUSH_CONCURRENCY,
  });
  return {
    runners: [
      ...(called.size > 0 ? [handlerRunner] : []),
      ...(inThreads.size > 0 ? [threadRunner] : []),
      pushRunner,
    ],
    async close() {
      await threads.close();
      await sender.close();
    },
  };
}
