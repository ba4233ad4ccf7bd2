// The part of the composition root that counts: the tallies of this process, what is read of those of all, and the guards
// that go by it.
// Invariant: what is counted is written and then read, once a second and in this order, so that memory never has a job twice.
// Next room: actions/tally.ts, actions/statistics.ts, actions/guards.ts.
import type { Chore } from '../actions/chores.ts';
import { Guards } from '../actions/guards.ts';
import type { Levers } from '../actions/levers.ts';
import { Statistics } from '../actions/statistics.ts';
import { Tally } from '../actions/tally.ts';
import { isHeld } from '../domain/options.ts';
import type { EventBus } from '../events.ts';
import type { Service } from '../roles/service.ts';
import type { Pool } from '../store/db.ts';
import type { Lanes } from '../store/lanes.ts';
import { type LaneDepth, readDepths } from '../store/tallies.ts';

export interface Counting {
  statistics: Statistics;
  guards: Guards;
  chore: Chore;
  /** What every lane holds, with all that this process has counted until now. */
  depths(): Promise<LaneDepth[]>;
  /** Learns the time before anything is counted, and writes the last counts after everything. */
  service: Service;
}

export function counting(options: {
  /** Where counts are written, and where they are read. */
  engine: Pool;
  read: Pool;
  /** The number of this process as a worker. */
  process: number;
  levers: Levers;
  lanes: Lanes;
  events: EventBus;
}): Counting {
  const { engine, read, process, levers, lanes, events } = options;
  const tally = new Tally({ db: engine, process, events });
  const statistics = new Statistics({ db: read, tally });
  const guards = new Guards({ levers, statistics, events });
  return {
    statistics,
    guards,
    async depths() {
      await Promise.all([tally.flush(), lanes.refresh()]);
      const queues = new Set([...lanes.all()].map(({ queue }) => queue));
      return (await read.many(readDepths, [[...queues]])).filter(({ route }) => !isHeld(route));
    },
    chore: {
      name: 'count',
      every_ms: 1_000,
      async run() {
        const moved = await tally.flush();
        await statistics.refresh();
        guards.look();
        return { moved };
      },
    },
    service: {
      name: 'counts',
      start: () => tally.learnTime(),
      stop: async () => {
        await tally.flush();
      },
    },
  };
}
