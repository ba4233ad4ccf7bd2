// Figure: bytes of WAL for each job, enqueued, run and kept as history, with the statements and transactions that took:
// batched, and one job at a time, which is the worst case. The peers in Postgres stand beside it.
// Invariant: WAL is counted for the whole cluster, so nothing else runs on it; the rounds are therefore not interleaved
// with anything.
// Next room: ../counters.ts, which counts.
import { enter } from '../contestant.ts';
import { type Cost, costOf, countersOf } from '../counters.ts';
import { checkDelivery } from '../delivery.ts';
import { drain } from '../drained.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';
import { installPeers } from '../peers.ts';
import { race_check, raceOnce } from '../race.ts';
import { placeFor, type System, setupOf } from '../systems.ts';

const sizes = {
  short: { jobs: 20_000, serial_jobs: 500, rounds: 1 },
  long: { jobs: 50_000, serial_jobs: 2_000, rounds: 3 },
};
const compared = ['errand', 'graphile-worker', 'pg-boss'] as const satisfies System[];

const warm_up = 50;

interface Result {
  fill: Cost;
  run: Cost;
  run_us: number;
  serial: Cost;
}

export async function wal(options: FigureOptions): Promise<Figure> {
  const { ground, profile, say, errand } = options;
  const size = sizes[profile];
  const rounds = options.rounds ?? size.rounds;
  await installPeers(say);
  await raceOnce(ground, errand);
  const results: Record<(typeof compared)[number], Result[]> = {
    errand: [],
    'graphile-worker': [],
    'pg-boss': [],
  };
  for (let round = 0; round < rounds; round++) {
    for (const system of compared) {
      const result = await measure(system, `wal_${round}_${system.replace('-', '_')}`, size, options);
      results[system].push(result);
      const { fill, run, serial } = result;
      const bytes = [fill, run, serial].map((cost) => Math.round(cost.wal));
      say(`wal, ${system}: ${bytes[0]} + ${bytes[1]} B/job batched, ${bytes[2]} serial`);
    }
  }
  const line = (system: System, what: string, unit: string, pick: (result: Result) => number) => ({
    what: `${system}: ${what}`,
    unit,
    spread: spreadOf(results[system as keyof typeof results].map(pick)),
  });
  return {
    name: 'wal',
    title: 'WAL for each job: enqueue + run + history',
    goals: [
      {
        what: 'WAL: enqueue + run + history, batched',
        ...{ at: 'most', value: 700, stretch: 620, unit: 'B/job' },
        seen: spreadOf(results.errand.map(({ fill, run }) => fill.wal + run.wal)),
      },
      {
        what: 'WAL: enqueue + run + history, one job at a time',
        ...{ at: 'most', value: 1_500, stretch: 1_300, unit: 'B/job' },
        seen: spreadOf(results.errand.map(({ serial }) => serial.wal)),
        // As pg_walinspect shows it.
        short:
          'of 1,600 bytes 315 are the row of the job, 380 those of block, lease and outcome, 470 seven entries of indexes, 215 the locks and deletes of block and lease, 135 four commits (submit, hint, claim, end); a batch shares most of that',
      },
    ],
    lines: compared.flatMap((system) => [
      line(system, 'WAL of the enqueue', 'B/job', ({ fill }) => fill.wal),
      line(system, 'WAL of the run', 'B/job', ({ run }) => run.wal),
      line(system, 'WAL, one job at a time', 'B/job', ({ serial }) => serial.wal),
      line(system, 'statements of the enqueue', '/job', ({ fill }) => fill.statements),
      line(system, 'statements of the run', '/job', ({ run }) => run.statements),
      line(system, 'transactions of the enqueue', '/job', ({ fill }) => fill.transactions),
      line(system, 'transactions of the run', '/job', ({ run }) => run.transactions),
      line(system, 'database CPU of the run', 'µs/job', ({ run_us }) => run_us),
    ]),
    setup: {
      jobs: `${size.jobs}, and ${size.serial_jobs} one at a time: the next is sent when the last is done`,
      payload: `${payloadText.length} bytes`,
      'Errand, enqueue': 'single submits, 1,000 in flight, coalesced',
      ...(await setupOf(compared, options)),
      history: 'Errand and pg-boss keep it, graphile-worker deletes finished jobs',
    },
    checks: [
      'alone on the cluster',
      'delivered = unique = enqueued = finished in every round, for all',
      race_check,
    ],
  };
}

async function measure(
  system: System,
  database: string,
  { jobs, serial_jobs }: { jobs: number; serial_jobs: number },
  options: FigureOptions,
): Promise<Result> {
  return {
    ...(await batched(system, database, jobs, options)),
    serial: await oneByOne(system, `${database}_serial`, serial_jobs, options),
  };
}

async function batched(
  system: System,
  database: string,
  jobs: number,
  options: FigureOptions,
): Promise<Omit<Result, 'serial'>> {
  const { ground } = options;
  const { module, concurrency, url, server } = await placeFor(system, database, options);
  const stage = enter(module, url);
  try {
    await stage.ask('prepare', {});
    const start = await countersOf(ground, url);
    await stage.ask('fill', { count: jobs });
    const filled = await countersOf(ground, url);
    const drained = await drain([stage], { count: jobs, concurrency, server });
    const ran = await countersOf(ground, url);
    const { finished } = await stage.ask('finished', { enqueued: jobs });
    checkDelivery(system, { enqueued: jobs, ids: drained.ids, finished });
    return {
      fill: await costOf(ground, url, { from: start, to: filled, jobs }),
      run: await costOf(ground, url, { from: filled, to: ran, jobs }),
      run_us: drained.postgres_us / jobs,
    };
  } finally {
    await stage.leave();
  }
}

async function oneByOne(
  system: System,
  database: string,
  jobs: number,
  options: FigureOptions,
): Promise<Cost> {
  const { ground } = options;
  const { module, url } = await placeFor(system, database, options);
  const stage = enter(module, url);
  try {
    await stage.ask('prepare', {});
    // What a first job brings along, once in the life of a database, is not the price of the next one.
    const warm = await stage.ask('serial', { count: warm_up });
    const from = await countersOf(ground, url);
    const { ids } = await stage.ask('serial', { count: jobs });
    const to = await countersOf(ground, url);
    const { finished } = await stage.ask('finished', { enqueued: warm_up + jobs });
    checkDelivery(`${system}, one by one`, {
      enqueued: warm_up + jobs,
      ids: [...warm.ids, ...ids],
      finished,
    });
    return await costOf(ground, url, { from, to, jobs });
  } finally {
    await stage.leave();
  }
}
