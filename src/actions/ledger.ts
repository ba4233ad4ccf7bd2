// Forgets what the ledger of schedules has kept for long enough.
// Next room: store/slots.ts.
import type { Pool } from '../store/db.ts';
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
