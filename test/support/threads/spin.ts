// Why this room exists: a handler that computes without a pause, as long as a test wants; it looks at its signal or not.
// Next room: test/roles/threads.test.ts.
import { defineHandler } from '../../../src/errand.ts';

interface Spin {
  ms: number;
  looks?: boolean;
}

export default defineHandler<Spin>({
  type: 'spin',
  thread: true,
  run({ ms, looks = false }, { signal, progress }) {
    progress({ current: 0, total: ms });
    const until = performance.now() + ms;
    let turns = 0;
    while (performance.now() < until) {
      if (looks) signal.throwIfAborted();
      turns++;
    }
    progress({ current: ms, total: ms });
    return { turns };
  },
});
