// Holds the counters against the truth: the leader recounts a few lanes at a time, and mends a counter that is wrong and stays
// wrong. Counts get lost with a process that is killed, or by a hand in the database.
// Invariants: what is merely under way is no drift: a difference counts when a second look, after every process has written,
// finds it again, and only as far as it is more than what moves; what is mended is told.
// Next room: store/recount.ts.
import { typeOf } from '../domain/options.ts';
import { type Depth, keptStates } from '../domain/tally.ts';
import type { EventBus } from '../events.ts';
import type { Pool } from '../store/db.ts';
import { type Recounted, recountLanes } from '../store/recount.ts';
import { addDepths } from '../store/tallies.ts';
import type { Chore } from './chores.ts';

/** Longer than a process takes to write what it has counted. */
const every_ms = 5_000;
const lanes_at_once = 100;
const most_rows = 200_000;
/** The share of the last ten to twenty seconds that may be on its way to the counter. */
const under_way = 0.3;

/** By how much the truth differs from the counter of a lane. */
type Drift = Partial<Depth>;

/** The leader's chore that recounts. */
export function recounting({ db, events }: { db: Pool; events: EventBus }): Chore {
  let behind = 0;
  let suspects = new Map<number, Drift>();
  return {
    name: 'recount',
    every_ms,
    async run() {
      const rows = await db.many(recountLanes, [[...suspects.keys()], behind, lanes_at_once, most_rows]);
      const found = new Map<number, Drift>();
      let mended = 0;
      for (const row of rows) {
        const before = suspects.get(row.lane);
        const drift = driftOf(row);
        if (drift === null) continue;
        const lasting = before === undefined ? null : lastingIn(before, drift);
        if (lasting === null) found.set(row.lane, drift);
        else mended += await mend(row, lasting);
      }
      const fresh = rows.filter(({ lane }) => lane > behind && !suspects.has(lane));
      behind = fresh.length < lanes_at_once ? 0 : (fresh.at(-1) as Recounted).lane;
      suspects = found;
      return { moved: mended };
    },
  };

  async function mend({ lane, queue, route }: Recounted, drift: Drift): Promise<number> {
    const none = { queued: 0, scheduled: 0, retrying: 0, running: 0, blocked: 0, dead: 0 };
    const totals = { arrived: 0, started: 0, ended: 0 };
    await db.many(addDepths, [JSON.stringify([{ lane, ...none, ...totals, ...drift }])]);
    for (const state of keptStates) {
      const by = drift[state];
      if (by !== undefined) events.emit('counter.drifted', { queue, type: typeOf(route), state, by: -by });
    }
    return 1;
  }
}

/** What is more than can be under way; null: nothing is. */
function driftOf(row: Recounted): Drift | null {
  const drift: Drift = {};
  for (const state of keptStates) {
    const truth = row[state];
    if (truth === null) continue;
    const by = truth - row[`counted_${state}`];
    if (Math.abs(by) > row.moving * under_way) drift[state] = by;
  }
  return Object.keys(drift).length === 0 ? null : drift;
}

/** What two looks have in common; null: nothing. */
function lastingIn(before: Drift, now: Drift): Drift | null {
  const lasting: Drift = {};
  for (const state of keptStates) {
    const [then, still] = [before[state], now[state]];
    if (then === undefined || still === undefined || Math.sign(then) !== Math.sign(still)) continue;
    lasting[state] = Math.sign(still) * Math.min(Math.abs(then), Math.abs(still));
  }
  return Object.keys(lasting).length === 0 ? null : lasting;
}
