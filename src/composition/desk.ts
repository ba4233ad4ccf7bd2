// The part of the composition root for operators: what they have set is in memory before anything starts that goes by it,
// and stays up to date.
// Invariant: the first look is over before a service starts; a look that fails is repeated within a second.
// Next room: actions/levers.ts; roles/loop.ts, in which it looks.
import { Levers } from '../actions/levers.ts';
import { type Queues, queueing } from '../actions/queues.ts';
import { loop } from '../roles/loop.ts';
import type { Service } from '../roles/service.ts';
import type { Pool } from '../store/db.ts';
import type { Lanes } from '../store/lanes.ts';

/** With its jitter and a look that takes its time, a change is in force within a second also where nobody told of it. */
const look_ms = 800;
const longest_pause_ms = 1_000;

export interface Desk {
  levers: Levers;
  /** The verbs of operators. */
  actions: { queues: Queues };
  service: Service;
  /** Something was changed. */
  hear(): void;
  /** Seconds since the last look that succeeded. */
  ages(): Record<string, number>;
}

export async function desk(options: {
  /** For looks, which must not wait behind those who read. */
  engine: Pool;
  read: Pool;
  lanes: Lanes;
  /** Seals cursors. */
  secret: Buffer;
  /** Something may be claimed that could not be claimed before. */
  onRelease: () => void;
  onError: (where: string, error: unknown) => void;
}): Promise<Desk> {
  const { engine, read, lanes, secret, onRelease } = options;
  const levers = new Levers({ db: engine, laneOf: (id) => lanes.peek(id), onRelease });
  await levers.look();
  const looks = loop({
    name: 'levers',
    every_ms: look_ms,
    longest_pause_ms,
    run: async () => {
      await levers.look();
      return levers.next_ms;
    },
    onError: options.onError,
  });
  return {
    levers,
    actions: { queues: queueing({ db: read, levers, secret }) },
    service: looks,
    hear: () => looks.wake(),
    ages: () => ({ levers: (performance.now() - looks.last_success) / 1_000 }),
  };
}
