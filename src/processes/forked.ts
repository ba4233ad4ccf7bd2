// One of the processes that share the port, as the primary sees it: forked, asked whether it still answers, and followed by
// another when it is gone.
// Invariants: a number has at most one process; one that does not answer is killed, so that it cannot keep its share of the
// connections; who dies again and again is started ever more slowly.
// Next room: place.ts, the same process from inside.
import cluster, { type Worker } from 'node:cluster';
import type { EventBus } from '../events.ts';
import type { ToPrimary, ToProcess, Up } from './place.ts';

export interface ForkOptions {
  number: number;
  events: EventBus;
  /** What the process is told when it is asked for metrics. */
  metricsOfAll: () => Promise<string>;
  /** A process that followed another ended at its start, the `failures`th to end too early in a row. */
  onFailed: (failures: number, reason: string) => void;
}

export interface Forked {
  /** Starts the first process; resolves once it serves, rejects when it ended before. From then on there is always one. */
  start(): Promise<Up>;
  isUp(): boolean;
  /** Its own metrics; null: it is not up, or does not answer. */
  metrics(): Promise<string | null>;
  /** Has it drain and starts no other; it is killed once that has taken too long. Answers what went wrong, or null. */
  end(signal: 'SIGTERM' | 'SIGINT', within_ms: number): Promise<string | null>;
}

const ping_ms = 5_000;
/** After so many pings without an answer a process hangs: 30 s, when its leases are over anyway. */
const most_unanswered = 6;
/** What a process gets to read its metrics: above the limit of a statement. */
const metrics_ms = 8_000;
const least_pause_ms = 250;
const most_pause_ms = 30_000;
/** Who served for so long did not fail at its start. */
const steady_ms = 60_000;
const orderly = 'exit code 0';

// The primary accepts and deals out, one connection at a time to whoever took its last one: kept connections are spread
// evenly, and a process that hangs gets one at most.
cluster.schedulingPolicy = cluster.SCHED_RR;

export function forking({ number, events, metricsOfAll, onFailed }: ForkOptions): Forked {
  let worker: Worker | null = null;
  let upSince: number | null = null;
  let ending = false;
  let unanswered = 0;
  let failures = 0;
  let turns = 0;
  let next: NodeJS.Timeout | undefined;
  const awaited = new Map<number, (text: string | null) => void>();

  const say = (level: 'info' | 'warn' | 'error', message: string, fields: object = {}) =>
    events.emit('service.said', { level, message, process: number, ...fields });

  function launch(): Promise<Up> {
    const { promise, resolve, reject } = Promise.withResolvers<Up>();
    cluster.setupPrimary({ args: ['serve', '--process', String(number)] });
    const mine = cluster.fork();
    worker = mine;
    unanswered = 0;
    const pinging = setInterval(() => {
      if (unanswered === most_unanswered) {
        say('error', 'a process does not answer and is killed', { pid: mine.process.pid });
        mine.process.kill('SIGKILL');
      }
      unanswered += 1;
      tell(mine, { kind: 'ping' });
    }, ping_ms);
    mine.on('message', (said: ToPrimary) => {
      unanswered = 0;
      if (said.kind === 'up') {
        upSince = performance.now();
        resolve({ url: said.url, types: said.types });
      } else if (said.kind === 'metrics') awaited.get(said.turn)?.(said.text);
      else if (said.kind === 'collect')
        void metricsOfAll().then((text) => tell(mine, { kind: 'collected', turn: said.turn, text }));
    });
    const onEnd = (how: string) => {
      if (worker !== mine) return;
      clearInterval(pinging);
      const lived_ms = upSince === null ? 0 : performance.now() - upSince;
      worker = null;
      upSince = null;
      for (const answer of awaited.values()) answer(null);
      reject(new Error(`process ${number} ended at its start with ${how}`));
      onGone(how, lived_ms);
    };
    mine.on('exit', (code, signal) => onEnd(signal ?? `exit code ${code}`));
    // A process that could not be made never exits.
    mine.on('error', (error) => mine.process.pid === undefined && onEnd(error.message));
    return promise;
  }

  let started = false;
  function onGone(how: string, lived_ms: number): void {
    if (ending || !started) return;
    // Who was told to stop drained and ended with 0.
    const isOrderly = how === orderly;
    failures = isOrderly || lived_ms >= steady_ms ? 0 : failures + 1;
    const pause_ms = Math.min(most_pause_ms, least_pause_ms * 2 ** failures);
    say(isOrderly ? 'info' : 'error', 'a process ended; another follows', { how, in_ms: pause_ms });
    if (lived_ms === 0) onFailed(failures, `process ${number} ended at its start with ${how}`);
    next = setTimeout(() => {
      launch().then(
        () => say('info', 'a process follows the one that ended', { pid: worker?.process.pid }),
        () => {},
      );
    }, pause_ms);
  }

  return {
    async start() {
      const told = await launch();
      started = true;
      return told;
    },
    isUp: () => upSince !== null,
    async metrics() {
      const mine = worker;
      if (mine === null || upSince === null || unanswered > 1) return null;
      const turn = turns++;
      const { promise, resolve } = Promise.withResolvers<string | null>();
      awaited.set(turn, resolve);
      const timer = setTimeout(() => resolve(null), metrics_ms);
      tell(mine, { kind: 'collect', turn });
      return promise.finally(() => {
        clearTimeout(timer);
        awaited.delete(turn);
      });
    },
    async end(signal, within_ms) {
      ending = true;
      clearTimeout(next);
      const mine = worker;
      if (mine === null) return null;
      const wasUp = upSince !== null;
      const { promise, resolve } = Promise.withResolvers<string | null>();
      mine.once('exit', (code, by) =>
        // Who is told to end before it listens to signals ends by them.
        resolve(code === 0 || !wasUp ? null : `process ${number} ended with ${by ?? `exit code ${code}`}`),
      );
      mine.process.kill(signal);
      const timer = setTimeout(() => mine.process.kill('SIGKILL'), within_ms);
      return promise.finally(() => clearTimeout(timer));
    },
  };
}

/** A message to a process that is just ending goes nowhere; its exit says so. */
function tell(worker: Worker, said: ToProcess): void {
  if (worker.isConnected()) worker.process.send(said, undefined, undefined, () => {});
}
