// The only loop: run, wait for the interval or a wake-up, run again. It survives its own errors with growing pauses and
// proves that it is alive by the time of its last success.
// Next room: chores.ts and worker/worker.ts, which run in it.
import type { Service } from './service.ts';

export interface LoopOptions {
  name: string;
  /** Pause between two runs, in ms; jittered by 10 %. */
  every_ms: number;
  /** Answers in how many ms it wants to run again, if sooner than `every_ms`. */
  run: () => Promise<number | undefined>;
  onError: (name: string, error: unknown) => void;
  /** Longest pause after failures, in ms; default 10 s. */
  longest_pause_ms?: number;
}

export interface Loop extends Service {
  /** Runs again at once, or once more after the present run. */
  wake(): void;
  /** Runs again in `ms` at the latest. */
  wakeIn(ms: number): void;
  /** Runs as by `wake`; answers as the next run that begins from now on does, and with undefined once stopped. */
  again(): Promise<number | undefined>;
  /** Monotonic ms of the last run that did not fail. */
  readonly last_success: number;
}

export function loop(options: LoopOptions): Loop {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let nextAt = Number.POSITIVE_INFINITY;
  let stopped = true;
  let failures = 0;
  let lastSuccess = performance.now();
  let awaiting: PromiseWithResolvers<number | undefined>[] = [];

  async function run(): Promise<void> {
    nextAt = Number.POSITIVE_INFINITY;
    const told = awaiting;
    awaiting = [];
    try {
      const wanted = await options.run();
      failures = 0;
      lastSuccess = performance.now();
      if (wanted !== undefined) nextAt = Math.min(nextAt, lastSuccess + wanted);
      for (const one of told) one.resolve(wanted);
    } catch (error) {
      failures++;
      options.onError(options.name, error);
      for (const one of told) one.reject(error);
    }
  }

  /** After a failure the pause grows, and no wake-up shortens it: a database in trouble is not hurried. */
  function next(): void {
    if (stopped) return;
    clearTimeout(timer);
    const backoff = options.every_ms * 2 ** Math.min(failures, 6) * (0.5 + Math.random() / 2);
    const regular = options.every_ms * (0.95 + Math.random() / 10);
    const pause =
      failures > 0
        ? Math.min(options.longest_pause_ms ?? 10_000, backoff)
        : Math.min(regular, nextAt - performance.now());
    timer = setTimeout(begin, Math.max(0, pause));
  }

  function begin(): void {
    if (stopped || running !== undefined) return;
    clearTimeout(timer);
    running = run().finally(() => {
      running = undefined;
      next();
    });
  }

  return {
    name: options.name,
    get last_success() {
      return lastSuccess;
    },
    start() {
      stopped = false;
      lastSuccess = performance.now();
      begin();
    },
    wake() {
      this.wakeIn(0);
    },
    wakeIn(ms) {
      const at = performance.now() + ms;
      if (at >= nextAt) return;
      nextAt = at;
      if (running !== undefined || stopped || failures > 0) return;
      if (ms <= 0) begin();
      else next();
    },
    again() {
      if (stopped) return Promise.resolve(undefined);
      const one = Promise.withResolvers<number | undefined>();
      awaiting.push(one);
      this.wake();
      return one.promise;
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await running;
      for (const one of awaiting) one.resolve(undefined);
      awaiting = [];
    },
  };
}
