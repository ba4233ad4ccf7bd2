// The part of the composition root for what operators do to many jobs at once: the verbs that begin and steer operations, and
// the chore that takes their steps.
// Invariant: every process can begin one; those that move jobs take its steps.
// Next room: actions/operations.ts; actions/stepping.ts.
import type { Actions } from '../actions/actions.ts';
import { auditing } from '../actions/audit.ts';
import { bulking } from '../actions/bulk.ts';
import type { Chore } from '../actions/chores.ts';
import { confirming } from '../actions/dangerous.ts';
import { discardStep } from '../actions/discard.ts';
import { type HoldTools, holdStep } from '../actions/hold.ts';
import { operating } from '../actions/operations.ts';
import { type RedriveOptions, redriving } from '../actions/redrive.ts';
import { redriveStep } from '../actions/redrive-many.ts';
import { rerouteStep } from '../actions/reroute.ts';
import { operationChore } from '../actions/stepping.ts';
import type { Pool } from '../store/db.ts';

export type BulkVerbs = Pick<Actions, 'audit' | 'operations' | 'bulk' | 'dangerous'>;

export function bulk(
  options: HoldTools &
    RedriveOptions & {
      /** For the verbs, and for the steps. */
      db: Pool;
      engine: Pool;
      /** Seals cursors. */
      secret: Buffer;
      /** A step is due now, in this process if it takes steps. */
      onDue: () => void;
      onError: (error: unknown) => void;
    },
): { verbs: BulkVerbs; chore: Chore } {
  const { engine, events } = options;
  const operations = operating(options);
  const hold = holdStep(options);
  return {
    verbs: {
      audit: auditing(options),
      operations,
      bulk: bulking({ ...options, operations }),
      dangerous: confirming({ ...options, onDue: operations.tell }),
    },
    chore: operationChore({
      db: engine,
      events,
      steps: {
        'dead_letters.redrive': redriveStep({ redrives: redriving(options) }),
        'queue.reroute': rerouteStep(options),
        'queue.purge': hold,
        'queue.delete_force': hold,
        'jobs.cancel_bulk': hold,
        'dead_letters.discard': discardStep(options),
      },
    }),
  };
}
