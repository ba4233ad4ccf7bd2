// The metrics of queues: what they hold, whether anybody takes it, and which levers hold them.
// Invariant: what the database does not tell is not told: the last figures would look calm in an outage. Levers are those this
// process goes by.
// Next room: metrics.ts, all others; actions/levers.ts and actions/tally.ts, where these come from.
import { Counter, Gauge, type Registry } from 'prom-client';
import { typeOf } from '../domain/options.ts';
import { keptStates } from '../domain/tally.ts';
import type { EventBus } from '../events.ts';

/** What one lane holds, as the gauges show it. */
export interface LaneDepth {
  queue: string;
  route: string;
  queued: number;
  running: number;
  scheduled: number;
  retrying: number;
  blocked: number;
  dead: number;
  oldest_age_ms: number | null;
}

export interface QueueMetricsOptions {
  events: EventBus;
  depths: () => Promise<LaneDepth[]>;
  /** Ready jobs that nobody takes. */
  unserved: () => Promise<{ lane: { queue: string; route: string }; queued: number }[]>;
  /** Pauses and drains in force; `type` null: of the whole queue. */
  levers: () => Iterable<{ lever: 'pause' | 'drain'; queue: string; type: string | null }>;
}

/** Queue and type as labels. */
export type Bounded = (queue: string, type: string) => { queue: string; type: string };

const most_series = 200;
/** Long enough for an alert to see it. */
const drift_shown_ms = 900_000;
/** Stands for all types; none can be called so. */
const any_type = '*';

export function queueMetrics(
  registry: Registry,
  bounded: Bounded,
  { events, depths, unserved: readUnserved, levers }: QueueMetricsOptions,
): {
  /** Sets what this process knows by itself. */
  readMemory(): void;
  /** Sets what it has to ask for. */
  readStore(): Promise<void>;
} {
  const registers = [registry];
  const depth = new Gauge({
    name: 'errand_queue_depth',
    help: 'Open jobs and dead letters by state, as processes count them; read at most every ten seconds.',
    labelNames: ['queue', 'type', 'state'],
    registers,
  });
  const oldest = new Gauge({
    name: 'errand_oldest_ready_seconds',
    help: 'Age of the oldest job that is ready to start.',
    labelNames: ['queue', 'type'],
    registers,
  });
  const unserved = new Gauge({
    name: 'errand_unserved_jobs',
    help: 'Jobs that are ready while nobody heard of within a minute takes their type.',
    labelNames: ['queue', 'type'],
    registers,
  });
  const paused = new Gauge({
    name: 'errand_queue_paused',
    help: '1 while a queue (type *) or one type in it is paused: nothing of it starts. Every replica tells it.',
    labelNames: ['queue', 'type'],
    registers,
  });
  const draining = new Gauge({
    name: 'errand_queue_draining',
    help: '1 while a queue is drained: it takes no jobs. Every replica tells it.',
    labelNames: ['queue'],
    registers,
  });
  const saturated = new Gauge({
    name: 'errand_queue_saturated',
    help: '1 while this process refuses submits to a queue that holds more than its limits allow.',
    labelNames: ['queue', 'limit'],
    registers,
  });
  const drift = new Gauge({
    name: 'errand_counter_drift',
    help: 'By how much a counter of depth was wrong where the leader has mended one within the last 15 minutes.',
    labelNames: ['queue', 'type', 'state'],
    registers,
  });
  const givenUp = new Counter({
    name: 'errand_recounts_given_up_total',
    help: 'Times the leader could not recount the jobs of a type in a queue within the time of a statement: a drift there stays.',
    labelNames: ['queue', 'type'],
    registers,
  });

  const drifts = new Map<string, { labels: Record<string, string>; at: number }>();
  events.on('counter.drifted', ({ queue, type, state, by }) => {
    const labels = { ...bounded(queue, type), state };
    drift.set(labels, by);
    drifts.set(Object.values(labels).join(' '), { labels, at: performance.now() });
  });
  events.on('recount.gave_up', ({ queue, type }) => givenUp.inc(bounded(queue, type)));
  events.on('guard.moved', ({ queue, closed_by }) => {
    const labels = { queue: bounded(queue, '').queue };
    for (const limit of ['max_depth', 'max_oldest_age_seconds']) {
      if (limit === closed_by) saturated.set({ ...labels, limit }, 1);
      else saturated.remove({ ...labels, limit });
    }
  });

  return {
    readMemory() {
      for (const [key, { labels, at }] of drifts) {
        if (performance.now() - at < drift_shown_ms) continue;
        drift.remove(labels);
        drifts.delete(key);
      }
      paused.reset();
      draining.reset();
      for (const { lever, queue, type } of levers()) {
        const labels = bounded(queue, type ?? any_type);
        if (lever === 'pause') paused.set(labels, 1);
        else draining.set({ queue: labels.queue }, 1);
      }
    },

    async readStore() {
      depth.reset();
      oldest.reset();
      unserved.reset();
      const [rows, missed] = await Promise.all([depths(), readUnserved()]);
      for (const { lane, queued } of missed) unserved.inc(bounded(lane.queue, typeOf(lane.route)), queued);
      // Jobs of a type may stand in two lanes, and types past the bound share their labels.
      const ages = new Map<object, number>();
      for (const row of rows) {
        const labels = bounded(row.queue, typeOf(row.route));
        for (const state of keptStates) {
          depth.inc({ ...labels, state }, row[state]);
        }
        const seconds = Math.max(ages.get(labels) ?? 0, (row.oldest_age_ms ?? 0) / 1_000);
        ages.set(labels, seconds);
        oldest.set(labels, seconds);
      }
    },
  };
}

/** Queue and type as labels; past the bound they are all called "other", so no caller can grow the registry. */
export function boundedNames(): Bounded {
  const known = new Map<string, Map<string, { queue: string; type: string }>>();
  const other = { queue: 'other', type: 'other' };
  let count = 0;
  return (queue, type) => {
    const labels = known.get(queue)?.get(type);
    if (labels !== undefined) return labels;
    if (count >= most_series) return other;
    count++;
    const made = { queue, type };
    known.set(queue, (known.get(queue) ?? new Map()).set(type, made));
    return made;
  };
}
