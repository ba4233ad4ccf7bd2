// docs/metrics.md, from the metrics themselves: what operators read is what is served.
// Next room: metrics.ts; docs/generate.ts, which writes it.
import type { EventBus } from '../events.ts';
import { metering } from './metrics.ts';

/** The page: a row for each metric, by name. */
export function metricsPage(events: EventBus): string {
  const metrics = metering({
    events,
    depths: async () => [],
    unserved: async () => [],
    levers: () => [],
    pools: () => [],
    slots: () => [],
    oldestDue: async () => 0,
    operations: async () => [],
    term: () => null,
    waiters: () => 0,
    watch: () => ({ streams: 0, jobs: 0 }),
  });
  const rows = metrics
    .described()
    .sort((one, other) => (one.name < other.name ? -1 : 1))
    .map(({ name, type, labels, help }) => {
      return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`;
    });
  return [
    '# Metrics',
    '',
    '`GET /metrics` of every process, whatever its roles, in the Prometheus text format. Counters count what this process',
    'saw since it started: add them up over all replicas, `sum by (queue) (rate(errand_jobs_finished_total[5m]))`. Gauges of',
    'the queue and of schedules tell of the database, and every replica tells the same: take one of them, `max by (queue)',
    '(errand_queue_depth)`. `queue` and `type` are labels of the first 200 pairs a process meets, later ones are `other`.',
    'Where several processes share a port (`ERRAND_PROCESSES`), any of them tells the metrics of all, each with its number as the',
    'label `process`: the same sums and maxima hold.',
    '',
    '| metric | kind | labels | meaning |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
    'Besides, `process_*` and `nodejs_*` of prom-client. How to use them: [operations](guides/operations.md).',
    '',
    '<!-- generated from src/telemetry/ by docs/generate.ts -->',
    '',
  ].join('\n');
}
