// Campaigns for the dispatcher's room, renews its term and gives it back.
// Invariant: nothing here says that the term is still held now; who acts in it lets the database say so (store/leader.ts).
// Next room: roles/elect.ts, which does it in time; store/leader.ts.
import type { Pool } from '../store/db.ts';
import {
  campaign,
  dispatcherRoom,
  findLeader,
  type LeaderRow,
  renewTerm,
  resignTerm,
} from '../store/leader.ts';

export interface Lead {
  /** Who leads, or led last; undefined: nobody ever has. */
  leader(): Promise<LeaderRow | undefined>;
  /** Begins a term unless another has not ended; answers its number, null when somebody else holds one. */
  campaign(): Promise<string | null>;
  /** Lengthens a term from now; false when it has ended. */
  renew(term: string): Promise<boolean>;
  /** Ends a term early. */
  resign(term: string): Promise<void>;
}

export function leading({ db, holder, term_ms }: { db: Pool; holder: string; term_ms: number }): Lead {
  return {
    leader: () => db.maybeOne(findLeader, [dispatcherRoom]),
    campaign: async () => (await db.maybeOne(campaign, [dispatcherRoom, holder, term_ms]))?.term ?? null,
    renew: async (term) => (await db.maybeOne(renewTerm, [dispatcherRoom, term, term_ms])) !== undefined,
    async resign(term) {
      await db.many(resignTerm, [dispatcherRoom, term]);
    },
  };
}
