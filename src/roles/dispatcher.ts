// Runs the chores, each in a loop of its own, so that one that hangs or fails leaves the others alone.
// Next room: actions/chores.ts.
import type { Chore } from '../actions/chores.ts';
import { type Loop, loop } from './loop.ts';
import type { Service } from './service.ts';

export interface Dispatcher extends Service {
  /** Seconds since the last success of each chore. */
  ages(): Record<string, number>;
}

export function dispatcher(options: {
  chores: readonly Chore[];
  onRan: (chore: string, moved: number) => void;
  onError: (chore: string, error: unknown) => void;
}): Dispatcher {
  const loops: Loop[] = options.chores.map((chore) => {
    const one: Loop = loop({
      name: chore.name,
      every_ms: chore.every_ms,
      onError: options.onError,
      run: async () => {
        const moved = await chore.run();
        options.onRan(chore.name, moved);
        // A full batch says there is more: go on at once.
        if (moved >= 500 && chore.name !== 'look') one.wake();
      },
    });
    return one;
  });
  return {
    name: 'dispatcher',
    start() {
      for (const one of loops) void one.start();
    },
    async stop(deadline) {
      await Promise.all(loops.map((one) => one.stop(deadline)));
    },
    ages: () =>
      Object.fromEntries(loops.map((one) => [one.name, (performance.now() - one.last_success) / 1_000])),
  };
}
