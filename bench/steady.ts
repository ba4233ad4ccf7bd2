// A steady load of single submits, run by the process that takes them in, with what each statement touched in equal parts
// of it: many small blocks, as they come when callers are many and each brings one job.
// Invariant: the rate is that of the clock; a machine that cannot bear it gets less, never a backlog without bound.
// Next room: figures/snapshot.ts, which holds a snapshot open meanwhile.
import { setTimeout as pause } from 'node:timers/promises';
import { defineHandler } from '../src/errand.ts';
import type { Ground } from './ground.ts';
import { noop, open, type Ran } from './inside.ts';
import { type Calls, callsOf, type Marked } from './meter.ts';

export const slices = 8;
/** Of the load, before the first slice. */
export const warm_up_ms = 2_000;
const tick_ms = 2;
const most_unfinished = 4_000;

export type Slice = Record<Marked, Calls>;

/** One process takes jobs in at a steady rate and runs them, in many small blocks. */
export async function steadyLoad(
  ground: Ground,
  url: string,
  jobs: number,
  per_second: number,
): Promise<{ ran: Ran; slices: Slice[] }> {
  const ids = new Set<string>();
  let delivered = 0;
  const { promise: allRan, resolve } = Promise.withResolvers<void>();
  const handler = defineHandler({
    type: 'noop',
    run(_, { job_id }) {
      ids.add(job_id);
      if (++delivered === jobs) resolve();
    },
  });
  const errand = await open(url, 'api,worker', [handler]);
  const began = performance.now();
  const elapsed = () => performance.now() - began;
  const done: Promise<unknown>[] = [];
  const taken: Slice[] = [];
  const slice_ms = (jobs / per_second) * (1_000 / slices) - warm_up_ms / slices;
  let before: Slice | undefined;
  let next = 0;
  try {
    while (next < jobs) {
      const due = Math.min(jobs, Math.ceil((elapsed() * per_second) / 1_000));
      // A slow machine gets the rate it can bear: what waits for the database is bounded.
      for (; next < due && next - delivered < most_unfinished; next++) {
        const submitted = errand.actions.submit(noop());
        // Looked at below: a refusal ends the figure then, not the process now.
        submitted.catch(() => {});
        done.push(submitted);
      }
      if (elapsed() > warm_up_ms + slice_ms * taken.length + (before === undefined ? 0 : slice_ms)) {
        const now = await callsOf(ground, url);
        if (before !== undefined) taken.push(between(before, now));
        before = now;
      }
      await pause(tick_ms);
    }
    await Promise.all(done);
    const late = pause(60_000, undefined, { ref: false });
    await Promise.race([allRan, late.then(() => assertAll(delivered, jobs))]);
  } finally {
    await errand.drain(true);
  }
  const ran: Ran = {
    ...{ jobs, delivered, unique: ids.size },
    ...{ seconds: elapsed() / 1_000, node_us: Number.NaN, postgres_us: Number.NaN },
  };
  return { ran, slices: taken };
}

function assertAll(delivered: number, jobs: number): void {
  if (delivered < jobs) throw new Error(`only ${delivered} of ${jobs} ran under the load; no figure`);
}

function between(from: Slice, to: Slice): Slice {
  const names = Object.keys(to) as Marked[];
  return Object.fromEntries(
    names.map((name) => {
      const [a, b] = [from[name], to[name]];
      return [name, { calls: b.calls - a.calls, rows: b.rows - a.rows, buffers: b.buffers - a.buffers }];
    }),
  ) as Slice;
}

/** Of a slice, for each call of a statement; NaN where there was none. */
export function perCall(
  slice: Slice | undefined,
  name: Marked,
  what: 'buffers' | 'rows' = 'buffers',
): number {
  const calls = slice?.[name];
  return calls === undefined ? Number.NaN : calls[what] / calls.calls;
}
