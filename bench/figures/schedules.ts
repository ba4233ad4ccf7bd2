// Figure: firing 10,000 schedules that are due in the same second against taking in 10,000 jobs by batch, and what an idle
// dispatcher costs with none and with 100,000 schedules stored.
// Invariants: one server, up for all rounds; every schedule has exactly one slot in the ledger in the end, and every slot
// its job.
// Next room: served.ts, which starts the server.
import { setTimeout as pause } from 'node:timers/promises';
import { cpuOf, cpuOfServer } from '../accounts.ts';
import { calmRounds } from '../calm.ts';
import { checkCounts } from '../delivery.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { pathOf, type Server, serve } from '../served.ts';

const due = 10_000;
const stored = 100_000;
const batch = 1_000;
const idle_seconds = 10;

interface Round {
  fire_ms: number;
  batch_ms: number;
  fire_postgres_us: number;
  batch_postgres_us: number;
  fire_node_us: number;
  fire_wal: number;
  batch_wal: number;
}

interface Idle {
  statements: number;
  postgres_ms: number;
  node_ms: number;
}

export async function schedules({ rounds = 6, ground, say }: FigureOptions): Promise<Figure> {
  const url = await ground.database('schedules');
  const server = await serve([pathOf('../src/main.ts'), 'serve', '--migrate'], url);
  const stage = { url, server, ground };
  try {
    const none = await idle(stage);
    await ground.ask(url, store, [stored, JSON.stringify(definition), payloadText]);
    const many = await idle(stage);
    say(`idle: ${none.statements} and ${many.statements} statements/s with 0 and ${stored} stored`);
    const { kept, others, remarks } = await calmRounds<Round>({
      rounds,
      server: ground.pid,
      say,
      async take(round) {
        const taken: Partial<Round> = {};
        for (const way of inTurn(round, ['batch', 'fire'] as const)) {
          Object.assign(taken, way === 'fire' ? await fire(stage) : await submit(stage));
        }
        const { fire_ms, batch_ms } = taken as Round;
        say(`schedules: ${Math.round(fire_ms)} ms against ${Math.round(batch_ms)} ms`);
        return taken as Round;
      },
    });
    const line = (what: string, unit: string, values: readonly number[]) => ({
      what,
      unit,
      spread: spreadOf(values),
    });
    const of = (pick: keyof Round, by = 1) => kept.map((round) => round[pick] / by);
    return {
      name: 'schedules',
      title: `${due.toLocaleString('en')} schedules due in one second against as many jobs by batch`,
      goals: [
        {
          what: '10,000 schedules due in one second: time',
          against: 'as many jobs in batches',
          ...{ at: 'most', value: 10, unit: '×' },
          seen: spreadOf(ratios(of('fire_ms'), of('batch_ms'))),
        },
      ],
      lines: [
        line('firing: from the second to the last slot', 'ms', of('fire_ms')),
        line('batches of 1,000, one after the other', 'ms', of('batch_ms')),
        line('firing: database CPU', 'µs/slot', of('fire_postgres_us', due)),
        line('batches: database CPU', 'µs/job', of('batch_postgres_us', due)),
        line('firing: Node CPU', 'µs/slot', of('fire_node_us', due)),
        line('firing: WAL, job included', 'B/slot', of('fire_wal', due)),
        line('batches: WAL', 'B/job', of('batch_wal', due)),
        line('idle, none stored: statements', '/s', [none.statements]),
        line(`idle, ${stored.toLocaleString('en')} stored: statements`, '/s', [many.statements]),
        line('idle, none stored: database CPU', 'ms/s', [none.postgres_ms]),
        line(`idle, ${stored.toLocaleString('en')} stored: database CPU`, 'ms/s', [many.postgres_ms]),
        line('idle, none stored: Node CPU', 'ms/s', [none.node_ms]),
        line(`idle, ${stored.toLocaleString('en')} stored: Node CPU`, 'ms/s', [many.node_ms]),
        { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
      ],
      setup: {
        schedules: `${due.toLocaleString('en')} due, ${stored.toLocaleString('en')} others stored`,
        cron: `${definition.cron} in ${definition.timezone}`,
        payload: `${payloadText.length} bytes`,
        'idle seconds': String(idle_seconds),
      },
      checks: ['slots = schedules that were due = jobs, each once, in every round', ...remarks],
    };
  } finally {
    await server.stop();
  }
}

interface Stage {
  url: string;
  server: Server;
  ground: FigureOptions['ground'];
}

const definition = {
  cron: '0 3 1 1 *',
  timezone: 'Europe/Berlin',
  every_seconds: null,
  starts_at: null,
  ends_at: null,
  jitter_seconds: 0,
  misfire: 'fire_latest',
  max_lateness_seconds: 300,
  max_catch_up: 100,
  overlap: 'allow',
  job: { queue: 'default', type: 'noop', priority: 5, max_attempts: 8, timeout_seconds: 60 },
};

const store = `insert into errand.schedule (name, definition, payload, watermark, next_slot, next_due)
  select 'stored-' || n, $2::jsonb, $3, now(), now() + interval '300 days', now() + interval '300 days'
  from generate_series(1, $1::int) n`;

/** Schedules that are due in the same second, a few seconds from now. */
async function fire({ url, server, ground }: Stage): Promise<Partial<Round>> {
  const [moment] = await ground.ask<{ at: Date }>(
    url,
    `select date_trunc('second', now()) + interval '5 s' "at"`,
  );
  const at = (moment as { at: Date }).at;
  const cron = `${at.getUTCSeconds()} ${at.getUTCMinutes()} ${at.getUTCHours()} * * *`;
  await ground.ask(url, `delete from errand.schedule where name like 'due-%'`);
  await ground.ask(
    url,
    `insert into errand.schedule (name, definition, payload, watermark, next_slot, next_due)
      select 'due-' || n, $2::jsonb, $3, now(), $4, $4 from generate_series(1, $1::int) n`,
    [due, JSON.stringify({ ...definition, cron, timezone: 'UTC' }), payloadText, at],
  );
  const meter = await metering(url, server, ground);
  const giveUp = Date.now() + 60_000;
  while ((await isDue(url, at, ground)) && Date.now() < giveUp) await pause(20);
  const used = await meter();
  const [row] = await ground.ask<{ ms: number; slots: number; jobs: number; schedules: number }>(
    url,
    `select extract(epoch from max(decided_at) - $1)::float8 * 1000 ms, count(*)::int slots,
       count(distinct job_id)::int jobs, count(distinct schedule_id)::int schedules from errand.slot where slot = $1`,
    [at],
  );
  const { slots = 0, jobs = 0, schedules = 0, ms = Number.NaN } = row ?? {};
  checkCounts('schedules', { enqueued: due, delivered: slots, unique: jobs, finished: schedules });
  return {
    fire_ms: ms,
    fire_postgres_us: used.postgres_us,
    fire_node_us: used.node_us,
    fire_wal: used.wal,
  };
}

async function isDue(url: string, at: Date, ground: Stage['ground']): Promise<boolean> {
  const [row] = await ground.ask<{ due: boolean }>(
    url,
    'select exists (select from errand.schedule where next_due <= $1) due',
    [at],
  );
  return row?.due ?? true;
}

async function submit({ url, server, ground }: Stage): Promise<Partial<Round>> {
  const body = JSON.stringify({ jobs: Array.from({ length: batch }, () => ({ type: 'noop', payload })) });
  const meter = await metering(url, server, ground);
  const began = performance.now();
  for (let sent = 0; sent < due; sent += batch) {
    const answer = await fetch(`http://127.0.0.1:${server.port}/v1/jobs/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    if (answer.status !== 202) throw new Error(`a batch was answered ${answer.status}; no figure`);
    await answer.arrayBuffer();
  }
  const batch_ms = performance.now() - began;
  const used = await meter();
  return { batch_ms, batch_postgres_us: used.postgres_us, batch_wal: used.wal };
}

async function metering(url: string, server: Server, ground: Stage['ground']) {
  const lsn = async () =>
    (
      (await ground.ask<{ lsn: string }>(url, 'select pg_current_wal_insert_lsn()::text lsn'))[0] as {
        lsn: string;
      }
    ).lsn;
  const from = { lsn: await lsn(), postgres: cpuOfServer(ground.pid), node: cpuOf(server.pid) };
  return async () => {
    const [row] = await ground.ask<{ bytes: number }>(url, 'select ($1::pg_lsn - $2::pg_lsn)::float8 bytes', [
      await lsn(),
      from.lsn,
    ]);
    return {
      wal: (row as { bytes: number }).bytes,
      postgres_us: cpuOfServer(ground.pid) - from.postgres,
      node_us: cpuOf(server.pid) - from.node,
    };
  };
}

/** What nothing to do costs in a second. */
async function idle({ url, server, ground }: Stage): Promise<Idle> {
  const calls = async () => {
    const [row] = await ground.ask<{ calls: number }>(
      url,
      `select coalesce(sum(calls), 0)::int calls from pg_stat_statements s join pg_database d on d.oid = s.dbid
       where datname = current_database() and toplevel and query not like '%pg_stat_statements%'`,
    );
    return (row as { calls: number }).calls;
  };
  await pause(3_000);
  const from = { calls: await calls(), postgres: cpuOfServer(ground.pid), node: cpuOf(server.pid) };
  await pause(idle_seconds * 1_000);
  return {
    statements: ((await calls()) - from.calls) / idle_seconds,
    postgres_ms: (cpuOfServer(ground.pid) - from.postgres) / 1_000 / idle_seconds,
    node_ms: (cpuOf(server.pid) - from.node) / 1_000 / idle_seconds,
  };
}
