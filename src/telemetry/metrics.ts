// Every metric. It counts events and reads gauges when scraped; labels are queue, type, outcome and class with a bound on
// their number, never ids or raw paths.
// Invariant: a scrape costs the database a few queries in ten seconds, whose price follows lanes and never jobs.
// Next room: series.ts, for those that are counted with every request; http/metrics.ts, which serves it.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { terminalStates } from '../domain/job.ts';
import { typeOf } from '../domain/options.ts';
import { keptStates } from '../domain/tally.ts';
import type { EventBus } from '../events.ts';
import { Counts, Distributions } from './series.ts';

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

export interface MetricsOptions {
  events: EventBus;
  depths: () => Promise<LaneDepth[]>;
  /** Ready jobs that nobody takes. */
  unserved: () => Promise<{ lane: { queue: string; route: string }; queued: number }[]>;
  pools: () => { name: string; open: number; idle: number; waiting: number }[];
  slots: () => readonly { name: string; slots: number; running: number }[];
  /** Age of the longest overdue schedule in s, by the database. */
  oldestDue: () => Promise<number>;
  /** Operations with a step to come, by kind. */
  operations: () => Promise<readonly { kind: string; n: number }[]>;
  /** The term this process leads in; null: another does. */
  term: () => string | null;
  waiters: () => number;
  watch: () => { streams: number; jobs: number };
  /** The number of this process among those that share its port: a label of all its metrics. Absent: it is alone. */
  process?: number;
}

export interface Metrics {
  contentType: string;
  text(): Promise<string>;
  /** Our metrics, without those that every Node process has. */
  described(): { name: string; type: string; help: string; labels: readonly string[] }[];
  observeHttp(route: string, method: string, status: number, seconds: number): void;
}

/** What prom-client knows of a metric and does not say in its types. */
interface Described {
  name: string;
  type: string;
  help: string;
  labelNames: string[];
}

const most_series = 200;
const ends: ReadonlySet<string> = new Set(terminalStates);
const depth_age_ms = 10_000;
/** Long enough for an alert to see it. */
const drift_shown_ms = 900_000;
const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900];

/** Builds the registry and subscribes it to the events. */
export function metering(options: MetricsOptions): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const bounded = boundedNames();
  if (options.process !== undefined) registry.setDefaultLabels({ process: String(options.process) });

  const submitted = new Counts(registry, {
    name: 'errand_jobs_submitted_total',
    help: 'Jobs accepted from callers and made by schedules; replayed = the idempotency key named a job that was there already.',
    labelNames: ['queue', 'type', 'replayed'],
  });
  const finished = new Counts(registry, {
    name: 'errand_jobs_finished_total',
    help: 'Jobs that reached a terminal state.',
    labelNames: ['queue', 'type', 'outcome'],
  });
  const attempts = new Counts(registry, {
    name: 'errand_attempts_total',
    help: 'Attempts that ended, by outcome and class of failure.',
    labelNames: ['queue', 'type', 'outcome', 'class'],
  });
  const startLatency = new Distributions(registry, {
    name: 'errand_start_latency_seconds',
    help: 'From when a job was due to its start.',
    labelNames: ['queue', 'type'],
    buckets: seconds,
  });
  const runTime = new Distributions(registry, {
    name: 'errand_run_seconds',
    help: 'From the start of an attempt to its end.',
    labelNames: ['queue', 'type', 'outcome'],
    buckets: seconds,
  });
  const pushes = new Counts(registry, {
    name: 'errand_push_requests_total',
    help: 'Requests to targets: succeeded, snoozed, handed_over, the class of the failure, or aborted.',
    labelNames: ['outcome'],
  });
  const pushTime = new Distributions(registry, {
    name: 'errand_push_request_seconds',
    help: 'Requests to targets, until their answer was read or the request was cut.',
    labelNames: ['outcome'],
    buckets: seconds,
  });
  const refused = new Counter({
    name: 'errand_stale_leases_refused_total',
    help: 'Endings that came after their lease was lost.',
    registers,
  });
  const violations = new Counter({
    name: 'errand_invariant_violations_total',
    help: 'States that must not be; any increase is a fault of Errand.',
    registers,
  });
  const hints = new Counter({
    name: 'errand_hints_total',
    help: 'Ids of ended jobs told to and heard from other replicas through Redis.',
    labelNames: ['direction'],
    registers,
  });
  const http = new Distributions(registry, {
    name: 'errand_http_request_seconds',
    help: 'Requests by route template, until the answer was handed to the system.',
    labelNames: ['route', 'method', 'status'],
    buckets: seconds,
  });
  const turnedAway = new Counts(registry, {
    name: 'errand_requests_refused_total',
    help: 'Requests answered 503: overload and bytes before they were looked at, else by the slug of the problem.',
    labelNames: ['reason'],
  });
  const storeErrors = new Counter({
    name: 'errand_store_errors_total',
    help: 'Failures of Postgres or Redis that a caller or loop met.',
    labelNames: ['where'],
    registers,
  });
  const choreFailures = new Counter({
    name: 'errand_loop_failures_total',
    help: 'Runs of a loop that failed; it goes on.',
    labelNames: ['loop'],
    registers,
  });
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
  const saturated = new Gauge({
    name: 'errand_queue_saturated',
    help: '1 while this process refuses submits to a queue that holds more than its limits allow.',
    labelNames: ['queue', 'limit'],
    registers,
  });
  const unserved = new Gauge({
    name: 'errand_unserved_jobs',
    help: 'Jobs that are ready while nobody heard of within a minute takes their type.',
    labelNames: ['queue', 'type'],
    registers,
  });
  const pool = new Gauge({
    name: 'errand_pool_connections',
    help: 'Connections of this process to Postgres, and callers that wait for one.',
    labelNames: ['pool', 'state'],
    registers,
  });
  const slots = new Gauge({
    name: 'errand_slots',
    help: 'Jobs that may run at once in this process, and those that do, by what runs them.',
    labelNames: ['runner', 'state'],
    registers,
  });
  const waiting = new Gauge({
    name: 'errand_waiters',
    help: 'Callers that wait for a job in this process.',
    registers,
  });
  const streams = new Gauge({
    name: 'errand_streams',
    help: 'Event streams that are open in this process.',
    registers,
  });
  const watched = new Gauge({
    name: 'errand_watched_jobs',
    help: 'Jobs of which somebody wants to know any change, by a stream or a long poll, in this process.',
    registers,
  });
  const decided = new Counter({
    name: 'errand_schedule_slots_total',
    help: 'Slots of schedules that this process wrote to the ledger; of many skipped together, those that were counted.',
    labelNames: ['outcome', 'reason'],
    registers,
  });
  const lateness = new Histogram({
    name: 'errand_schedule_lateness_seconds',
    help: 'From when a slot was due to when its job was made.',
    buckets: seconds,
    registers,
  });
  const scheduleFailures = new Counter({
    name: 'errand_schedule_failures_total',
    help: 'Times a schedule could not be fired; it is tried again.',
    registers,
  });
  const operationItems = new Counter({
    name: 'errand_operation_items_total',
    help: 'Jobs and dead letters that steps of operations in this process dealt with, by what became of them.',
    labelNames: ['kind', 'outcome'],
    registers,
  });
  const operationFailures = new Counter({
    name: 'errand_operation_failures_total',
    help: 'Steps of operations that failed in this process; after five in a row the operation waits for somebody.',
    labelNames: ['kind'],
    registers,
  });
  const operationsRunning = new Gauge({
    name: 'errand_operations_running',
    help: 'Operations with a step to come, by the database: every replica tells it.',
    labelNames: ['kind'],
    registers,
  });
  const oldestDue = new Gauge({
    name: 'errand_schedule_oldest_due_seconds',
    help: 'Age of the longest overdue schedule, by the database: every replica tells it, also when nobody leads.',
    registers,
  });
  const leads = new Gauge({
    name: 'errand_leader',
    help: '1 in the process that leads the dispatchers.',
    registers,
  });
  const term = new Gauge({
    name: 'errand_leader_term',
    help: 'The term this process leads in; 0: it does not lead.',
    registers,
  });
  const elected = new Counter({
    name: 'errand_leader_elections_total',
    help: 'Terms that began in this process.',
    registers,
  });
  const fenced = new Counter({
    name: 'errand_fenced_total',
    help: 'Times this process was kept from writing in a term that was over.',
    registers,
  });
  const ours = registry.getMetricsAsArray() as unknown as Described[];
  // Only those default metrics whose names promtool accepts.
  collectDefaultMetrics({ register: registry });
  for (const name of [
    'nodejs_active_handles_total',
    'nodejs_active_requests_total',
    'nodejs_active_resources_total',
  ]) {
    registry.removeSingleMetric(name);
  }

  const { events } = options;
  events.on('job.submitted', (event) => {
    const { queue, type } = bounded(event.queue, event.type);
    submitted.of(queue, type, event.replayed ? 'true' : 'false').value++;
  });
  events.on('job.claimed', (event) => {
    const { queue, type } = bounded(event.queue, event.type);
    startLatency.of(queue, type).observe(Math.max(0, event.wait_ms) / 1_000);
  });
  events.on('job.ended', (event) => {
    const { queue, type } = bounded(event.queue, event.type);
    const { outcome, run_ms } = event;
    if (event.epoch > 0) attempts.of(queue, type, outcome, event.class ?? 'none').value++;
    if (run_ms !== null) runTime.of(queue, type, outcome).observe(Math.max(0, run_ms) / 1_000);
    if (ends.has(outcome)) finished.of(queue, type, outcome).value++;
  });
  events.on('target.answered', ({ outcome, took_ms }) => {
    pushes.of(outcome).value++;
    pushTime.of(outcome).observe(took_ms / 1_000);
  });
  events.on('slot.decided', ({ outcome, reason, slots, lateness_ms }) => {
    decided.inc({ outcome, reason: reason ?? 'none' }, slots ?? 1);
    if (outcome !== 'skipped' && outcome !== 'manual') lateness.observe(Math.max(0, lateness_ms) / 1_000);
  });
  events.on('schedule.failed', () => scheduleFailures.inc());
  events.on('operation.stepped', ({ kind, outcome, items }) => operationItems.inc({ kind, outcome }, items));
  events.on('operation.failed', ({ kind }) => operationFailures.inc({ kind }));
  events.on('leader.elected', () => elected.inc());
  events.on('term.fenced', () => fenced.inc());
  events.on('lease.refused', () => refused.inc());
  events.on('invariant.violated', () => violations.inc());
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
  events.on('hint.sent', ({ ids }) => hints.inc({ direction: 'sent' }, ids));
  events.on('hint.received', ({ ids }) => hints.inc({ direction: 'received' }, ids));
  events.on('http.refused', ({ reason }) => {
    turnedAway.of(reason).value++;
  });
  events.on('store.error', ({ where }) => storeErrors.inc({ where }));
  events.on('chore.failed', ({ chore }) => choreFailures.inc({ loop: chore }));

  const drifts = new Map<string, { labels: Record<string, string>; at: number }>();
  let readAt = Number.NEGATIVE_INFINITY;
  async function readGauges(): Promise<void> {
    waiting.set(options.waiters());
    const watch = options.watch();
    streams.set(watch.streams);
    watched.set(watch.jobs);
    for (const { name: runner, slots: all, running } of options.slots()) {
      slots.set({ runner, state: 'all' }, all);
      slots.set({ runner, state: 'busy' }, running);
    }
    for (const { name, open, idle, waiting: callers } of options.pools()) {
      pool.set({ pool: name, state: 'open' }, open);
      pool.set({ pool: name, state: 'idle' }, idle);
      pool.set({ pool: name, state: 'waiting' }, callers);
    }
    for (const [key, { labels, at }] of drifts) {
      if (performance.now() - at < drift_shown_ms) continue;
      drift.remove(labels);
      drifts.delete(key);
    }
    leads.set(options.term() === null ? 0 : 1);
    term.set(Number(options.term() ?? 0));
    if (performance.now() - readAt < depth_age_ms) return;
    readAt = performance.now();
    // What the database does not tell is not told: the last figures would look calm in an outage.
    oldestDue.remove();
    depth.reset();
    oldest.reset();
    unserved.reset();
    operationsRunning.reset();
    const [overdue, rows, missed, operations] = await Promise.all([
      options.oldestDue(),
      options.depths(),
      options.unserved(),
      options.operations(),
    ]);
    for (const { kind, n } of operations) operationsRunning.set({ kind }, n);
    for (const { lane, queued } of missed) unserved.inc(bounded(lane.queue, typeOf(lane.route)), queued);
    oldestDue.set(overdue);
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
  }

  return {
    contentType: registry.contentType,
    async text() {
      await readGauges().catch((error) => events.emit('store.error', { where: 'metrics', error }));
      return registry.metrics();
    },
    described: () =>
      ours.map(({ name, type, help, labelNames }) => ({ name, type, help, labels: labelNames })),
    observeHttp: (route, method, status, took) => http.of(route, method, status).observe(took),
  };
}

/** The texts of several processes as one: what is said of a metric once, then the samples of all of them. */
export function mergeTexts(texts: readonly string[]): string {
  const samples = new Map<string, string[]>();
  for (const block of texts.flatMap((text) => text.trimEnd().split('\n\n'))) {
    const lines = block.split('\n');
    const said = lines.filter((line) => line.startsWith('#')).join('\n');
    const known = samples.get(said) ?? [];
    samples.set(said, known);
    known.push(...lines.filter((line) => !line.startsWith('#')));
  }
  return `${[...samples].map(([said, lines]) => [said, ...lines].join('\n')).join('\n\n')}\n`;
}

/** Queue and type as labels; past the bound they are all called "other", so no caller can grow the registry. */
function boundedNames(): (queue: string, type: string) => { queue: string; type: string } {
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
