// What it costs a process to count: the metrics of a request and of its job, and the statistics of its queue, in CPU of its own
// and without a server around them.
// Invariant: the same events are said to nobody as well, and what that costs is taken off.
// Next room: figures/layers.ts, which holds it against a request.
import { Tally } from '../src/actions/tally.ts';
import { EventBus } from '../src/events.ts';
import { type Metrics, metering } from '../src/telemetry/metrics.ts';

/** In µs of CPU: at a POST, and at the start and the end of its job. */
export interface CountingPrice {
  post_us: number;
  run_us: number;
}

const times = 200_000;

/** The metrics of a process that has nothing else. */
export function metricsAlone(events: EventBus): Metrics {
  return metering({
    events,
    depths: async () => [],
    operations: async () => [],
    unserved: async () => [],
    levers: () => [],
    pools: () => [],
    slots: () => [],
    oldestDue: async () => 0,
    term: () => null,
    waiters: () => 0,
    watch: () => ({ streams: 0, jobs: 0 }),
  });
}

/** What takes it once, within some tenths of a second. */
export function pricingCounting(): () => CountingPrice {
  const events = new EventBus();
  const metrics = metricsAlone(events);
  new Tally({ db: {} as ConstructorParameters<typeof Tally>[0]['db'], process: 1, events });
  const silence = new EventBus();
  const job = { lane: 1, queue: 'default', type: 'noop' };
  const submit = (bus: EventBus) => (n: number) => {
    bus.emit('job.submitted', { job_id: String(n), ...job, state: 'queued', replayed: false });
  };
  const run = (bus: EventBus) => (n: number) => {
    const start = { job_id: String(n), ...job, epoch: 1, attempt: 1 };
    bus.emit('job.claimed', { ...start, wait_ms: n % 1_000 });
    const end = {
      outcome: 'succeeded',
      class: null,
      run_ms: n % 100,
      from: 'running',
      to: 'succeeded',
    } as const;
    bus.emit('job.ended', { ...start, ...end });
  };
  const post = (n: number) => {
    metrics.observeHttp('/v1/jobs', 'POST', 202, (n % 100) / 10_000);
    submit(events)(n);
  };
  return () => ({
    post_us: priceOf(post) - priceOf(submit(silence)),
    run_us: priceOf(run(events)) - priceOf(run(silence)),
  });
}

/** CPU of one call in µs, when it is warm. */
function priceOf(work: (n: number) => void): number {
  for (let n = 0; n < times; n++) work(n);
  const before = process.cpuUsage();
  for (let n = 0; n < times; n++) work(n);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / times;
}
