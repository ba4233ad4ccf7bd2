// Runs the chores, each in a loop of its own, so that one that hangs or fails leaves the others alone.
// Next room: actions/chores.ts.
import type { Chore } from '../actions/chores.ts';
import { type Loop, loop } from './loop.ts';
import type { Service } from './service.ts';

export interface ChoreRunner extends Service {
  /** Seconds since the last success of each chore. */
  ages(): Record<string, number>;
  /** Runs a chore in `ms` at the latest: something of its kind falls due then. */
  wakeIn(chore: string, ms: number): void;
  /** Runs every chore, thoroughly, until it leaves nothing behind: the clock was moved. Throws what a chore throws. */
  catchUp(): Promise<void>;
}

export function runningChores(options: {
  chores: readonly Chore[];
  /** Whether the clock stands still: then nothing falls due by waiting. */
  isFrozen: () => boolean;
  onRan: (chore: string, moved: number) => void;
  onError: (chore: string, error: unknown) => void;
}): ChoreRunner {
  const thorough = new Set<string>();
  const loops = new Map(
    options.chores.map((chore) => [
      chore.name,
      loop({
        name: chore.name,
        every_ms: chore.every_ms,
        onError: options.onError,
        run: async () => {
          const { moved, again_ms } = await chore.run(thorough.delete(chore.name));
          options.onRan(chore.name, moved);
          return again_ms !== 0 && options.isFrozen() ? undefined : again_ms;
        },
      }),
    ]),
  );
  let started = false;
  return {
    name: 'chores',
    start() {
      started = true;
      for (const one of loops.values()) void one.start();
    },
    async stop(deadline) {
      await Promise.all([...loops.values()].map((one) => one.stop(deadline)));
    },
    ages: () =>
      Object.fromEntries(
        (started ? [...loops.values()] : []).map((one) => [
          one.name,
          (performance.now() - one.last_success) / 1_000,
        ]),
      ),
    wakeIn: (chore, ms) => loops.get(chore)?.wakeIn(ms),
    async catchUp() {
      const rest = async ([name, one]: [string, Loop]) => {
        do thorough.add(name);
        while ((await one.again()) === 0);
      };
      await Promise.all([...loops].map(rest));
    },
  };
}
