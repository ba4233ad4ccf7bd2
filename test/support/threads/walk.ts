// Why this room exists: work of many small steps, each kept, so that a test can end the process in the middle.
// Next room: test/system/resume.test.ts.
import { setTimeout as pause } from 'node:timers/promises';
import { defineHandler } from '../../../src/errand.ts';

interface Walk {
  steps: number;
  ms: number;
}

export default defineHandler<Walk>({
  type: 'walk',
  thread: true,
  async run({ steps, ms }, { last_checkpoint, checkpoint, progress }) {
    const from = (last_checkpoint as { done: number } | null)?.done ?? 0;
    for (let done = from + 1; done <= steps; done++) {
      await pause(ms);
      await checkpoint({ done });
      progress({ current: done, total: steps });
    }
    return { from };
  },
});
