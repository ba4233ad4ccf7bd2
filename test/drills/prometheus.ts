// Drill: a real Prometheus scrapes three replicas while all kinds of jobs flow. What it adds up over them equals what the
// database holds, and promtool has nothing to say of the names, types and helps.
// Next room: src/telemetry/metrics.ts, which counts; test/support/prometheus.ts.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { balancer } from '../support/balancer.ts';
import { calling } from '../support/call.ts';
import { mixedLoad } from '../support/mixed-load.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { type Prometheus, startPrometheus } from '../support/prometheus.ts';
import { until } from '../support/until.ts';
import type { Drill, Figures, Verdict } from './drill.ts';

const rate = 50;
const handlers = fileURLToPath(new URL('../support/handlers', import.meta.url));

/** What is added up: by Prometheus over all replicas, and by the database; both give a label and a number. */
const totals = [
  {
    name: 'submitted',
    expression: 'sum by (replayed) (errand_jobs_submitted_total{replayed="false"})',
    label: 'replayed',
    sql: `select 'false' as label, count(*)::int n from errand.job`,
  },
  {
    name: 'finished',
    expression: 'sum by (outcome) (errand_jobs_finished_total)',
    label: 'outcome',
    sql: `select status::text as label, count(*)::int n from errand.outcome where status <= 'expired' group by 1`,
  },
  {
    name: 'attempts',
    expression: 'sum by (outcome) (errand_attempts_total)',
    label: 'outcome',
    sql: `select status::text as label, count(*)::int n from errand.outcome where started_at is not null group by 1`,
  },
  {
    name: 'slots',
    expression: 'sum by (outcome) (errand_schedule_slots_total)',
    label: 'outcome',
    sql: 'select outcome::text as label, sum(slots)::int n from errand.slot group by 1',
  },
  {
    name: 'starts',
    expression: 'sum by (job) (errand_start_latency_seconds_count)',
    label: 'job',
    sql: `select 'errand' as label, count(*)::int n from errand.outcome where started_at is not null`,
  },
  {
    name: 'waiting',
    expression: 'max by (state) (errand_queue_depth{type="unserved"})',
    label: 'state',
    sql: `select state::text as label, count(*)::int n from (select array_agg(id) ids from errand.job) a
      cross join lateral errand.job_facts(a.ids) where state in ('queued', 'scheduled') group by 1`,
  },
] as const;

export const drill: Drill = {
  name: 'prometheus',
  proves: 'a real Prometheus scrapes three replicas, and its totals equal the counts of the database',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const seconds = profile === 'long' ? 120 : 15;
    const database = await cloneDatabase();
    const truth = new pg.Pool({ connectionString: database.url, max: 2 });
    const door = await balancer();
    const env = { DATABASE_URL: database.url, ERRAND_HANDLERS_DIR: handlers, ERRAND_LOG_LEVEL: 'warn' };
    const replicas: Service[] = [];
    let prometheus: Prometheus | undefined;
    try {
      for (let n = 0; n < 3; n++) {
        const replica = await startService({ env });
        replicas.push(replica);
        door.add(replica.port);
      }
      const ports = replicas.map(({ port }) => port);
      const started = await startPrometheus(folder, ports).catch((error: Error) => error);
      if (started instanceof Error) return { result: 'NOT RUN', reason: started.message };
      prometheus = started;
      await schedules(door.url, seconds);
      const load = await mixedLoad({ url: door.url, rate, workers: 3 });
      const replays = await oddities(door.url);
      await pause(seconds * 1_000);
      await load.stop();
      await load.close();
      await until(async () => (await openStarts(truth)) === 0, { timeoutMs: 60_000, everyMs: 250 });

      // Gauges of the queue are read at most every ten seconds.
      const same = async () => (await compare(started, truth)).differing.length === 0;
      await until(same, { timeoutMs: 20_000, everyMs: 1_000 }).catch(() => {});
      const { figures, differing } = await compare(started, truth);
      const sum = async (expression: string) => (await started.query(expression))[0]?.value ?? 0;
      const replayed = await sum('sum(errand_jobs_submitted_total{replayed="true"})');
      const up = await sum('sum(up)');
      const slowest = await sum('max(max_over_time(scrape_duration_seconds[1h]))');
      const said = new Set<string>();
      for (const { url } of replicas) said.add(started.check(await (await fetch(`${url}/metrics`)).text()));
      const all = { scraped: up, replayed, slowest_scrape_ms: Math.round(slowest * 1_000), ...figures };
      say(`${up} replicas up; promtool says: ${[...said].join('; ') || 'nothing'}`);
      const verdict = { figures: all, versions: { prometheus: started.version } };
      const told = [...said].filter((text) => text !== '');
      if (told.length > 0) return { ...verdict, result: 'FAIL', reason: `promtool says: ${told.join('; ')}` };
      if (up !== 3) return { ...verdict, result: 'FAIL', reason: `${up} replicas are up` };
      if (replayed !== replays) differing.push(`${replayed} replays are counted, and ${replays} were made`);
      if (differing.length > 0) return { ...verdict, result: 'FAIL', reason: differing.join('; ') };
      const missing = ['succeeded', 'dead', 'cancelled', 'expired', 'retry'].filter(
        (outcome) => !JSON.stringify(figures).includes(outcome),
      );
      const isEverywhere = await sum('count(sum by (instance) (errand_jobs_submitted_total) > 20)');
      if (
        missing.length > 0 ||
        isEverywhere !== 3 ||
        !JSON.stringify(figures.slots ?? {}).includes('on_time')
      ) {
        const reason = `nothing was ${missing.join(', ')}, no slot fired, or a replica took no part`;
        return { ...verdict, result: 'VACUOUS', reason };
      }
      return { ...verdict, result: 'PASS' };
    } finally {
      await prometheus?.stop();
      await Promise.all(replicas.map((replica) => replica.kill9()));
      door.stop();
      await truth.end();
      await database.drop();
    }
  },
};

/** Schedules that fire each second, for as long as the load lasts. */
async function schedules(url: string, seconds: number): Promise<void> {
  const ends_at = new Date(Date.now() + seconds * 1_000).toISOString();
  for (let n = 0; n < 3; n++) {
    const plan = { every_seconds: 1, ends_at, job: { type: 'slot' } };
    const { status, json } = await calling(() => url)('PUT', `/v1/schedules/drill-${n}`, plan);
    if (status !== 201) throw new Error(`a schedule was answered ${status} ${JSON.stringify(json)}`);
  }
}

/** What the load has not: replays, failures, cancels, expiries, and jobs that nobody serves. Answers how many were replays. */
async function oddities(url: string): Promise<number> {
  const call = calling(() => url);
  const submit = async (job: object, headers: Record<string, string> = {}) =>
    (await call.post('/v1/jobs', job, headers)).json.id as string;
  const key = { 'idempotency-key': randomUUID() };
  for (let n = 0; n < 6; n++) await submit({ type: 'steady', payload: 1 }, key);
  for (let n = 0; n < 5; n++) await submit({ type: 'unserved' });
  for (let n = 0; n < 4; n++) await submit({ type: 'unserved', delay_seconds: 3_600 });
  for (let n = 0; n < 3; n++) {
    await call.post(`/v1/jobs/${await submit({ type: 'cancelled', delay_seconds: 60 })}/cancel`);
    await submit({ type: 'late', expires_at: new Date(Date.now() + 500).toISOString() });
    await submit({ type: 'odd' });
  }
  for (const failure of [
    { class: 'permanent', message: 'no' },
    { class: 'retryable', message: 'not yet', retry_after_seconds: 1 },
    { class: 'permanent', message: 'no' },
  ]) {
    const { json } = await call.post(
      '/v1/leases',
      { worker: 'odd', types: ['odd'], limit: 1 },
      { prefer: 'wait=5' },
    );
    await call.post(`/v1/leases/${json.leases[0].id}/fail`, failure);
  }
  const again = await call.post(
    '/v1/leases',
    { worker: 'odd', types: ['odd'], limit: 1 },
    { prefer: 'wait=10' },
  );
  await call.post(`/v1/leases/${again.json.leases[0].id}/complete`, { result: 1 });
  return 5;
}

async function openStarts(truth: pg.Pool): Promise<number> {
  const { rows } = await truth.query<{ n: number }>(
    `select count(*)::int n from (select array_agg(id) ids from errand.job) a
     cross join lateral errand.job_facts(a.ids) f join errand.job j using (id) join errand.lane l on l.id = j.lane
     where f.state not in ('succeeded', 'dead', 'cancelled', 'expired') and l.route <> 'unserved'`,
  );
  return rows[0]?.n ?? -1;
}

async function compare(
  prometheus: Prometheus,
  truth: pg.Pool,
): Promise<{ figures: Figures; differing: string[] }> {
  const figures: Figures = {};
  const differing: string[] = [];
  for (const { name, expression, label, sql } of totals) {
    const scraped = Object.fromEntries(
      (await prometheus.query(expression))
        .map(({ labels, value }) => [labels[label] ?? '', value] as const)
        .filter(([, value]) => value !== 0)
        .sort(),
    );
    const { rows } = await truth.query<{ label: string; n: number }>(sql);
    const stored = Object.fromEntries(rows.map(({ label: key, n }) => [key, n] as const).sort());
    figures[name] = stored;
    if (JSON.stringify(scraped) !== JSON.stringify(stored)) {
      differing.push(
        `${name}: Prometheus has ${JSON.stringify(scraped)}, the database ${JSON.stringify(stored)}`,
      );
    }
  }
  return { figures, differing };
}
