// Keeps the counts small: the leader adds tallies that nobody writes any more to the depth of their lanes and to rows by the
// minute, and forgets minutes that were kept for long enough.
// Invariant: a tally is deleted by the transaction that adds it, so it counts once whoever folds.
// Next room: store/tallies.ts; recount.ts, which finds what was never told.
import { addTo, emptyHistogram, sparse } from '../domain/histogram.ts';
import { happenings, keptStates, noCounts, type TallyRow } from '../domain/tally.ts';
import type { Pool } from '../store/db.ts';
import {
  addDepths,
  forgetMinutes,
  insertMinutes,
  type StoredTally,
  takeMinutes,
  takeTallies,
} from '../store/tallies.ts';
import type { Chore } from './chores.ts';

/** Longer than any process still writes a row, in s. */
const written_seconds = 120;
const most = 1_000;
const minute_ms = 60_000;

/** The leader's chore that folds tallies. */
export function folding({ db }: { db: Pool }): Chore {
  return {
    name: 'fold',
    every_ms: 10_000,
    async run() {
      const moved = await db.transaction(async (tx) => {
        const tallies = await tx.many(takeTallies, [written_seconds, most]);
        if (tallies.length === 0) return 0;
        const keys = new Map(tallies.map((one) => [keyOf(one), one]));
        const minutes = await tx.many(takeMinutes, [
          [...keys.values()].map(({ lane }) => lane),
          [...keys.values()].map((one) => minuteOf(one)),
        ]);
        await tx.many(insertMinutes, [JSON.stringify(merged([...minutes, ...tallies]))]);
        await tx.many(addDepths, [JSON.stringify(changesOf(tallies))]);
        return tallies.length;
      });
      return { moved, again_ms: moved >= most ? 0 : undefined };
    },
  };
}

/** The leader's chore that forgets minutes older than `hours`. */
export function forgettingStatistics({ db, hours }: { db: Pool; hours: number }): Chore {
  return {
    name: 'statistics',
    every_ms: 10_000,
    async run() {
      const { forgotten } = await db.one(forgetMinutes, [hours, most]);
      return { moved: forgotten, again_ms: forgotten >= most ? 0 : undefined };
    },
  };
}

function minuteOf({ slot }: StoredTally): string {
  return new Date(Math.floor(slot.getTime() / minute_ms) * minute_ms).toISOString();
}

function keyOf(row: StoredTally): string {
  return `${row.lane} ${minuteOf(row)}`;
}

/** One row for each lane and minute. */
function merged(rows: readonly StoredTally[]): TallyRow[] {
  return [...Map.groupBy(rows, keyOf).values()].map((group) => {
    const first = group[0] as StoredTally;
    const sum = noCounts();
    const times = { wait: emptyHistogram(), run: emptyHistogram(), failed: emptyHistogram() };
    for (const row of group) {
      for (const name of [...happenings, ...keptStates]) sum[name] += row[name];
      for (const name of ['wait', 'run', 'failed'] as const) addTo(times[name], row[name]);
    }
    return {
      ...sum,
      lane: first.lane,
      slot: minuteOf(first),
      wait: sparse(times.wait),
      run: sparse(times.run),
      failed: sparse(times.failed),
    };
  });
}

/** By how much the depths change, one row for each lane. */
function changesOf(rows: readonly StoredTally[]) {
  return [...Map.groupBy(rows, ({ lane }) => lane)].map(([lane, group]) => {
    const sum = noCounts();
    for (const row of group) for (const name of [...happenings, ...keptStates]) sum[name] += row[name];
    const { queued, scheduled, retrying, running, blocked, dead, arrived, started } = sum;
    const ended = sum.succeeded + sum.died + sum.cancelled + sum.expired;
    return { lane, queued, scheduled, retrying, running, blocked, dead, arrived, started, ended };
  });
}
