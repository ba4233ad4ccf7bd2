// Why this room exists: a handler whose jobs take a moment, so that a process that stops always has some under way.
// Next room: test/support/mixed-load.ts, which submits them.
import { setTimeout as pause } from 'node:timers/promises';
import { defineHandler } from '../../../src/errand.ts';

export default defineHandler<number>({
  type: 'steady',
  async run(n) {
    await pause(100 + (n % 5) * 50);
    return n;
  },
});
