// The only loop: run, wait for the interval or a wake-up, run again. It survives its own errors with growing pauses and
// proves that it is alive by the time of its last success.
// Next room: dispatcher.ts and worker/worker.ts, which run in it.
import type { Service } from './service.ts';

export interface LoopOptions {
  name: string;
  /** Pause between two runs, in ms; jittered by 10 %. */
  every_ms: number;
  run: () => Promise<unknown>;
  onError: (name: string, error: unknown) => void;
}

export interface Loop extends Service {
  /** Runs again at once, or once more after the present run. */
  wake(): void;
  /** Monotonic ms of the last run that did not fail. */
  readonly last_success: number;
}

const longest_pause_ms = 10_000;

export function loop(options: LoopOptions): Loop {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let again = false;
  let stopped = true;
  let failures = 0;
  let lastSuccess = performance.now();

  async function run(): Promise<void> {
    again = false;
    try {
      await options.run();
      failures = 0;
      lastSuccess = performance.now();
    } catch (error) {
      failures++;
      options.onError(options.name, error);
    }
  }

  function next(): void {
    if (stopped) return;
    clearTimeout(timer);
    const pause =
      failures > 0
        ? Math.min(longest_pause_ms, options.every_ms * 2 ** Math.min(failures, 6)) *
          (0.5 + Math.random() / 2)
        : options.every_ms * (0.95 + Math.random() / 10);
    timer = setTimeout(begin, again && failures === 0 ? 0 : pause);
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
      again = true;
      if (running === undefined && failures === 0) begin();
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}
