// Every metric. It counts events and reads gauges when scraped; labels are queue, type, outcome and class with a bound on
// their number, never ids or raw paths.
// Invariant: a scrape costs the database a few queries in ten seconds, whose price follows lanes and never jobs.
// Next room: queue-metrics.ts, those of queues; series.ts, for those that are counted with every request; http/metrics.ts, which
// serves it.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { terminalStates } from '../domain/job.ts';
import { boundedNames, type QueueMetricsOptions, queueMetrics } from './queue-metrics.ts';
import { Counts, Distributions } from './series.ts';

export interface MetricsOptions extends QueueMetricsOptions {
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

const ends: ReadonlySet<string> = new Set(terminalStates);
const depth_age_ms = 10_000;
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
  const queues = queueMetrics(registry, bounded, options);
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
  events.on('hint.sent', ({ ids }) => hints.inc({ direction: 'sent' }, ids));
  events.on('hint.received', ({ ids }) => hints.inc({ direction: 'received' }, ids));
  events.on('http.refused', ({ reason }) => {
    turnedAway.of(reason).value++;
  });
  events.on('store.error', ({ where }) => storeErrors.inc({ where }));
  events.on('chore.failed', ({ chore }) => choreFailures.inc({ loop: chore }));

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
    queues.readMemory();
    leads.set(options.term() === null ? 0 : 1);
    term.set(Number(options.term() ?? 0));
    if (performance.now() - readAt < depth_age_ms) return;
    readAt = performance.now();
    // What the database does not tell is not told: the last figures would look calm in an outage.
    oldestDue.remove();
    operationsRunning.reset();
    const [overdue, operations] = await Promise.all([
      options.oldestDue(),
      options.operations(),
      queues.readStore(),
    ]);
    for (const { kind, n } of operations) operationsRunning.set({ kind }, n);
    oldestDue.set(overdue);
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
