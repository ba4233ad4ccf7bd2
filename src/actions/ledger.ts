// Forgets what the books have kept for long enough: the ledger of schedules, and operations that are over. The audit stays.
// Next room: store/slots.ts; store/operations.ts.
import type { Pool } from '../store/db.ts';
import { forgetOperations } from '../store/operations.ts';
import { forgetSlots } from '../store/slots.ts';
import type { Chore } from './chores.ts';

const most = 1_000;

/** The leader's chore that forgets slots decided more than `days` ago. */
export function forgetting({ db, days }: { db: Pool; days: number }): Chore {
  return {
    name: 'ledger',
    every_ms: 10_000,
    async run() {
      const { forgotten } = await db.one(forgetSlots, [days, most]);
      return { moved: forgotten, again_ms: forgotten >= most ? 0 : undefined };
    },
  };
}

/** How long an operation is kept when it is over, and an action that began none, in days. */
const operation_days = 30;

/** When there was nothing to forget it is not asked again for so long: days are coarse. */
const pause_ms = 600_000;

/** The leader's chore that forgets operations, their items and actions. */
export function forgettingOperations({ db }: { db: Pool }): Chore {
  let next = 0;
  return {
    name: 'forget',
    every_ms: 10_000,
    async run(thorough) {
      if (!thorough && performance.now() < next) return { moved: 0 };
      const { forgotten } = await db.one(forgetOperations, [operation_days, most]);
      if (forgotten === 0) next = performance.now() + pause_ms;
      return { moved: forgotten, again_ms: forgotten > 0 ? 0 : undefined };
    },
  };
}
