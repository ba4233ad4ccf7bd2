// Holds the counters against the truth: the leader recounts a few lanes at a time, and mends a counter that is wrong and stays
// wrong. Counts get lost with a process that is killed, or by a hand in the database. Counters of lanes that are gone go too.
// Invariants: what is merely under way is no drift: a difference counts when a second look, after every process has written,
// finds it again, and only as far as it is more than what moves; what is mended is told, and so is what is too large to be seen.
// Next room: store/recount.ts.
import { typeOf } from '../domain/options.ts';
import { type Depth, type KeptState, keptStates } from '../domain/tally.ts';
import type { EventBus } from '../events.ts';
import { type Pool, sqlState } from '../store/db.ts';
import { forgetDepths, type Recounted, recountLanes } from '../store/recount.ts';
import { addDepths } from '../store/tallies.ts';
import type { Chore } from './chores.ts';

/** Longer than a process takes to write what it has counted. */
const every_ms = 5_000;
const lanes_at_once = 100;
/** Rows of one state in a lane; where there are more, the lane is large: it is recounted alone, and whole. */
const small_rows = 5_000;
const whole = 2_000_000_000;
/** A large lane is left alone for so many times as long as its last recount took, unless there is a suspicion. */
const rest = 50;
const behind_all = 2_147_483_647;
/** The share of the last ten to twenty seconds that may be on its way to the counter. */
const under_way = 0.2;

/** By how much the truth differs from the counter of a lane. */
type Drift = Partial<Depth>;

/** A lane that is recounted alone, and not before a moment of the monotonic clock. */
interface Large {
  lane: number;
  queue: string;
  type: string;
  at: number;
}

/** The leader's chore that recounts. */
export function recounting(options: {
  /** Where counters are mended, and where jobs are counted: not where somebody waits to fire schedules. */
  db: Pool;
  read: Pool;
  events: EventBus;
  /** Rows of one state in a lane that are no reason to recount it alone. */
  most_rows?: number;
}): Chore {
  const { db, read, events, most_rows = small_rows } = options;
  let behind = 0;
  let suspects = new Map<number, Drift>();
  const large = new Map<number, Large>();
  return {
    name: 'recount',
    every_ms,
    async run() {
      const rows = await read.many(recountLanes, [[...suspects.keys()], behind, lanes_at_once, most_rows]);
      const alone = await recountAlone(rows);
      const looks = alone === null ? rows : [...rows.filter(({ lane }) => lane !== alone.lane), alone];
      const found = new Map<number, Drift>();
      let mended = 0;
      for (const row of looks) {
        const before = suspects.get(row.lane);
        const drift = driftOf(row);
        if (drift === null) continue;
        const lasting = before === undefined ? null : lastingIn(before, drift);
        if (lasting === null) found.set(row.lane, drift);
        else mended += await mend(row, lasting);
      }
      const fresh = rows.filter(({ lane }) => lane > behind && !suspects.has(lane));
      const last = fresh.length < lanes_at_once ? null : (fresh.at(-1) as Recounted).lane;
      await db.many(forgetDepths, [behind, last ?? behind_all]);
      behind = last ?? 0;
      suspects = found;
      return { moved: mended };
    },
  };

  /** One large lane, whole: one that is suspected, else the one whose turn it is; null: none. */
  async function recountAlone(rows: readonly Recounted[]): Promise<Recounted | null> {
    const began = performance.now();
    for (const row of rows) {
      const { lane, queue, route } = row;
      if (!isPartial(row, keptStates)) large.delete(lane);
      else if (!large.has(lane)) large.set(lane, { lane, queue, type: typeOf(route), at: began });
    }
    const suspected = rows.find((row) => isPartial(row, statesOf(suspects.get(row.lane))));
    const [next] = [...large.values()].toSorted((one, other) => one.at - other.at);
    const chosen = suspected === undefined ? next : large.get(suspected.lane);
    if (chosen === undefined || (suspected === undefined && chosen.at > began)) return null;
    try {
      return await read.one(recountLanes, [[chosen.lane], behind_all, 0, whole]);
    } catch (error) {
      if (sqlState(error) !== took_too_long) throw error;
      events.emit('recount.gave_up', { queue: chosen.queue, type: chosen.type });
      return null;
    } finally {
      const ended = performance.now();
      chosen.at = ended + (ended - began) * rest;
    }
  }

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

/** Said by Postgres of a statement that reached its timeout. */
const took_too_long = '57014';

/** Whether one of these states was not counted to its end. */
function isPartial(row: Recounted, states: readonly KeptState[]): boolean {
  return states.some((state) => row[state] === null);
}

function statesOf(drift: Drift | undefined): KeptState[] {
  return drift === undefined ? [] : keptStates.filter((state) => state in drift);
}

/** What is more than can be under way; null: nothing is. */
function driftOf(row: Recounted): Drift | null {
  const drift: Drift = {};
  for (const state of keptStates) {
    const truth = row[state];
    if (truth === null) continue;
    const by = truth - row[`counted_${state}`];
    if (Math.abs(by) > row[`moving_${state}`] * under_way) drift[state] = by;
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
