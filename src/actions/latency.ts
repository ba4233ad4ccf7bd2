// What happened in a queue over time: how many jobs came, started and ended, and how long they waited and ran.
// Invariant: it reads rows by the minute, never jobs, and no more of them than fit into an answer.
// Next room: store/tallies.ts; http/queue-statistics.ts.
import { addTo, boundOf, emptyHistogram, type Histogram, sparse } from '../domain/histogram.ts';
import { routesOf } from '../domain/options.ts';
import { type Counts, happenings } from '../domain/tally.ts';
import type { Pool } from '../store/db.ts';
import { readSpan } from '../store/tallies.ts';

export interface LatencyAsk {
  queue: string;
  type: string | undefined;
  from: Date;
  to: Date;
  step_seconds: number;
}

/** How often a time was at most so many ms long, and longer than the bound before. */
export type Cell = [to_ms: number, times: number];

/** A stretch of time in which something happened. */
export interface Column extends Counts {
  at: Date;
  wait_ms: Cell[];
  /** Of attempts that succeeded, and of those that failed. */
  run_ms: Cell[];
  failed_ms: Cell[];
}

/** Answers with the columns in order; null: there is more than can be read at once. */
export type Latency = (ask: LatencyAsk) => Promise<Column[] | null>;

const most_rows = 20_000;

export function readingLatency({ db }: { db: Pool }): Latency {
  return async ({ queue, type, from, to, step_seconds }) => {
    const routes = type === undefined ? null : routesOf(type);
    const rows = await db.many(readSpan, [queue, from, to, routes, most_rows + 1]);
    if (rows.length > most_rows) return null;
    const step_ms = step_seconds * 1_000;
    const start = from.getTime();
    const placed = Map.groupBy(rows, ({ slot }) => Math.floor((slot.getTime() - start) / step_ms));
    return [...placed]
      .toSorted(([a], [b]) => a - b)
      .map(([n, group]) => {
        const counts = {} as Counts;
        for (const name of happenings) counts[name] = group.reduce((sum, row) => sum + row[name], 0);
        const cells = (name: 'wait' | 'run' | 'failed') => {
          const sum = emptyHistogram();
          for (const row of group) addTo(sum, row[name]);
          return cellsOf(sum);
        };
        return {
          at: new Date(start + n * step_ms),
          ...counts,
          wait_ms: cells('wait'),
          run_ms: cells('run'),
          failed_ms: cells('failed'),
        };
      });
  };
}

function cellsOf(histogram: Histogram): Cell[] {
  const pairs = sparse(histogram);
  return Array.from({ length: pairs.length / 2 }, (_, i) => [
    Number(boundOf(pairs[2 * i] as number).toPrecision(3)),
    pairs[2 * i + 1] as number,
  ]);
}
