// The part of the composition root that tells how the process is: its probes, and its metrics.
// Invariant: it only looks; what cannot be read is left out of a scrape, never told as it was.
// Next room: telemetry/health.ts and telemetry/metrics.ts.
import type { Levers } from '../actions/levers.ts';
import type { Roster } from '../actions/roster.ts';
import type { EventBus } from '../events.ts';
import type { Place } from '../processes/place.ts';
import type { Worker } from '../roles/worker/worker.ts';
import { countOperations } from '../store/operations.ts';
import { oldestDue } from '../store/slots.ts';
import { ping } from '../store/soundness.ts';
import { type Health, watchingHealth } from '../telemetry/health.ts';
import { type Metrics, metering } from '../telemetry/metrics.ts';
import type { Counting } from './counting.ts';
import type { Office } from './office.ts';
import type { Stores } from './stores.ts';
import type { Telling } from './telling.ts';

export function vitals(
  { read, counts: pools }: Stores,
  events: EventBus,
  options: {
    release: string;
    /** Which process this is. */
    holder: string;
    telling: Telling;
    counts: Counting;
    roster: Roster;
    levers: Levers;
    dispatch: Office | null;
    runners: readonly Worker[];
    /** Seconds since the last success of each loop. */
    ages: () => Record<string, number>;
    draining: () => boolean;
    started: () => boolean;
    place: Place | undefined;
  },
): { health: Health; metrics: Metrics } {
  const { release, holder, counts, roster, levers, dispatch, runners, ages, draining, started, place } =
    options;
  const { hints, waiters, watch } = options.telling;
  const health = watchingHealth({
    ...{ release, holder, draining, started, loops: ages },
    pingDatabase: () =>
      read.sound(ping, ({ read_only }) => (read_only ? 'postgres answers but refuses writes' : null)),
    pingRedis: hints === null ? null : () => hints.probe(),
  });
  const metrics = metering({
    ...{ events, pools, depths: counts.depths },
    unserved: () => roster.unserved(),
    levers: () => levers.inForce(),
    operations: () => read.many(countOperations),
    oldestDue: async () => (await read.one(oldestDue)).seconds,
    term: () => dispatch?.term() ?? null,
    slots: () => runners,
    waiters: () => waiters.count,
    watch: () => ({ streams: watch.streams, jobs: watch.jobs }),
    ...(place === undefined ? {} : { process: place.number }),
  });
  place?.metricsFrom(metrics.text);
  return { health, metrics: place === undefined ? metrics : { ...metrics, text: place.metricsOfAll } };
}
