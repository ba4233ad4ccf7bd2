// Why this room exists: every way in which the code of a handler can take its thread down.
// Next room: test/roles/threads.test.ts.
import { defineHandler } from '../../../src/errand.ts';

export default defineHandler<'exit' | 'throw'>({
  type: 'crash',
  thread: true,
  run(how, { attempt }) {
    if (attempt > 1) return 'well again';
    if (how === 'exit') process.exit(3);
    setImmediate(() => {
      throw new Error('outside of any promise');
    });
    return new Promise(() => {});
  },
});
