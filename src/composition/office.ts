// The part of the composition root that leads: the election, and the chores that only whoever holds the office runs.
// Invariant: they run only while the term is held, and what they write is fenced by it (store/leader.ts).
// Next room: roles/elect.ts; actions/fire.ts, the reason for it all.
import { type FireOptions, firing } from '../actions/fire.ts';
import { folding, forgettingStatistics } from '../actions/fold.ts';
import { leading } from '../actions/lead.ts';
import { forgetting, forgettingOperations } from '../actions/ledger.ts';
import { recounting } from '../actions/recount.ts';
import type { Config } from '../config.ts';
import type { EventBus } from '../events.ts';
import { runningChores } from '../roles/chores.ts';
import { electing } from '../roles/elect.ts';
import type { Service } from '../roles/service.ts';
import type { Pool } from '../store/db.ts';

/** The office as the rest of the program sees it. */
export interface Office extends Service {
  /** The term held here; null: another leads, or nobody does. */
  term(): string | null;
  /** Seconds since the last success of the election and, in office, of each of the leader's chores. */
  ages(): Record<string, number>;
  /** In office, runs the leader's chores as `ChoreRunner.catchUp` does. */
  catchUp(): Promise<void>;
}

export function office(
  options: Omit<FireOptions, 'term' | 'onFenced' | 'onError'> & {
    config: Config;
    events: EventBus;
    holder: string;
    isFrozen: () => boolean;
    /** Where jobs are counted; all else goes by `db`. */
    read: Pool;
  },
): Office {
  const { config, db, events, holder } = options;
  const onError = (chore: string, error: unknown) => events.emit('chore.failed', { chore, error });
  let isLeaving = false;
  const chores = runningChores({
    chores: [
      firing({
        ...options,
        term: () => (isLeaving ? null : candidate.term()),
        onFenced(term) {
          events.emit('term.fenced', { term });
          candidate.lose('the database says that it is over');
        },
        onError: (error) => onError('fire', error),
      }),
      forgetting({ db, days: config.ERRAND_LEDGER_DAYS }),
      forgettingOperations({ db }),
      folding({ db }),
      forgettingStatistics({ db, hours: config.ERRAND_STATISTICS_HOURS }),
      recounting({ db, read: options.read, events }),
    ],
    isFrozen: options.isFrozen,
    onRan: (chore, moved) => events.emit('chore.ran', { chore, moved }),
    onError,
  });
  const candidate = electing({
    lead: leading({ db, holder, term_ms: config.ERRAND_TERM_SECONDS * 1_000 }),
    term_ms: config.ERRAND_TERM_SECONDS * 1_000,
    onElected(term) {
      events.emit('leader.elected', { term });
      void chores.start();
    },
    onLost(term, why) {
      events.emit('leader.lost', { term, why });
      void chores.stop(performance.now());
    },
    onError,
  });
  return {
    name: 'office',
    start: () => candidate.start(),
    async stop(deadline) {
      // What is being written is written before another may begin; what is left of a long absence is the other's.
      isLeaving = true;
      await chores.stop(deadline);
      await candidate.stop(deadline);
    },
    term: () => candidate.term(),
    catchUp: () => chores.catchUp(),
    ages: () => ({ elect: candidate.age(), ...(candidate.term() === null ? {} : chores.ages()) }),
  };
}
