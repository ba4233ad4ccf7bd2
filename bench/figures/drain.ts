// Figure: how fast a backlog of no-op jobs is run by one and by two processes, against graphile-worker, pg-boss and BullMQ,
// each in its fastest configuration.
// Invariants: every round takes all systems, on fresh databases of the same servers and after a warm-up drain in the same
// processes; what autovacuum would do within a minute is done for all before the clock starts; a figure needs the delivery
// check, and the race of four partial claimers.
// Next room: ../drained.ts, which runs the clock; ../systems.ts, who is compared.
import { calmRounds, type Rounds } from '../calm.ts';
import { enter } from '../contestant.ts';
import { statementsOf } from '../counters.ts';
import { checkDelivery } from '../delivery.ts';
import { drain as drainOf } from '../drained.ts';
import type { Figure, FigureOptions, Goal } from '../figure.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { installPeers } from '../peers.ts';
import { race_check, raceOnce } from '../race.ts';
import { placeFor, type System, setupOf, systems } from '../systems.ts';

const sizes = {
  short: { backlog: 30_000, warm_up: 3_000, rounds: 3 },
  // A drain of a second would mostly time how code becomes warm.
  long: { backlog: 120_000, warm_up: 30_000, rounds: 5 },
};

interface Contender {
  system: System;
  processes: 1 | 2;
  /** False: the tables are as the fill left them, which says nothing of an installation older than a minute. */
  hasStatistics: boolean;
}

interface Result {
  per_second: number;
  /** CPU in µs for each job. */
  node_us: number;
  store_us: number;
  /** Enqueue and run; NaN outside Postgres. */
  statements: number;
}

type Round = Map<string, Result>;

const all = Object.keys(systems) as System[];
const peersInPostgres = ['graphile-worker', 'pg-boss'] as const;
const others = ['BullMQ', 'BullMQ, AOF'] as const;
const inPostgres: readonly System[] = ['errand', ...peersInPostgres];

export async function drain(options: FigureOptions): Promise<Figure> {
  const { ground, say, profile, errand } = options;
  const size = sizes[profile];
  const rounds = options.rounds ?? size.rounds;
  await installPeers(say);
  await raceOnce(ground, errand);
  const contenders: Contender[] = [
    ...([1, 2] as const).flatMap((processes) =>
      all.map((system) => ({ system, processes, hasStatistics: true })),
    ),
    ...(profile === 'short'
      ? []
      : inPostgres.map((system) => ({ system, processes: 1 as const, hasStatistics: false }))),
  ];
  let databases = 0;
  const taken = await calmRounds<Round>({
    rounds,
    most: profile === 'short' ? rounds + 1 : undefined,
    server: ground.pid,
    say,
    async take(round) {
      const results: Round = new Map();
      for (const contender of inTurn(round, contenders)) {
        const result = await drainOnce(contender, `drain_${databases++}`, size, options);
        results.set(labelOf(contender), result);
        say(`  ${labelOf(contender)}: ${Math.round(result.per_second)} jobs/s`);
      }
      say(`drain: round of ${contenders.length} taken`);
      return results;
    },
  });
  return {
    name: 'drain',
    title: 'Drain of no-op jobs by one and by two processes',
    goals: goalsOf(taken),
    lines: linesOf(contenders, taken),
    setup: {
      backlog: `${size.backlog} jobs`,
      'warm-up': `${size.warm_up} jobs, in the same processes`,
      ...(await setupOf(all, options)),
      statistics: 'vacuum (analyze) between fill and drain, except where the line says otherwise',
      clock: 'first handler call until nothing waits and nothing runs in the store',
      statements:
        'enqueue by single submits, 1,000 in flight, and run; both ends start and stop within the count',
    },
    checks: [
      'delivered = unique = enqueued = finished in every drain, for all',
      race_check,
      ...taken.remarks,
    ],
  };
}

async function drainOnce(
  { system, processes, hasStatistics }: Contender,
  database: string,
  { backlog, warm_up }: { backlog: number; warm_up: number },
  options: FigureOptions,
): Promise<Result> {
  const { ground } = options;
  const { module, concurrency, url, server } = await placeFor(system, database, options);
  const isInPostgres = inPostgres.includes(system);
  const stages = Array.from({ length: processes }, () => enter(module, url));
  const [leader] = stages as [(typeof stages)[0]];
  try {
    await leader.ask('prepare', {});
    await leader.ask('fill', { count: warm_up });
    await drainOf(stages, { count: warm_up, concurrency, server });
    const before = isInPostgres ? await statementsOf(ground, url) : Number.NaN;
    await leader.ask('fill', { count: backlog });
    if (isInPostgres && hasStatistics) await ground.ask(url, 'vacuum (analyze)');
    const drained = await drainOf(stages, { count: backlog, concurrency, server });
    const statements = isInPostgres ? (await statementsOf(ground, url)) - before : Number.NaN;
    const { finished } = await leader.ask('finished', { enqueued: backlog + warm_up });
    checkDelivery(`${system} in ${processes}`, {
      enqueued: backlog,
      ids: drained.ids,
      finished: finished - warm_up,
    });
    return {
      per_second: backlog / drained.seconds,
      node_us: drained.node_us / backlog,
      store_us: drained.postgres_us / backlog,
      statements: statements / backlog,
    };
  } finally {
    await Promise.all(stages.map((stage) => stage.leave()));
  }
}

function labelOf({ system, processes, hasStatistics }: Contender): string {
  const words = [system, processes === 1 ? '1 process' : `${processes} processes`];
  return [...words, ...(hasStatistics ? [] : ['no statistics'])].join(', ');
}

function goalsOf({ kept }: Rounds<Round>): Goal[] {
  const measured = (system: System, processes: 1 | 2, what: keyof Result) =>
    kept.map((round) => resultOf(round, labelOf({ system, processes, hasStatistics: true }))[what]);
  const best = (rivals: readonly System[], processes: 1 | 2) =>
    kept.map((_, i) =>
      Math.max(...rivals.map((rival) => measured(rival, processes, 'per_second')[i] ?? Number.NaN)),
    );
  const median = (...of: Parameters<typeof measured>) => spreadOf(measured(...of)).median;
  /** What a job costs, beside the fastest of these. */
  const why = (rivals: readonly System[], processes: 1 | 2): string => {
    const [rival] = rivals.toSorted(
      (a, b) => median(b, processes, 'per_second') - median(a, processes, 'per_second'),
    ) as [System];
    const node = (system: System) => median(system, processes, 'node_us');
    const both = (system: System) => node(system) + median(system, processes, 'store_us');
    return processes === 1
      ? `one thread of Node has every job for ${node('errand').toFixed(1)} µs, that of ${rival} for ${node(rival).toFixed(1)} µs, while the store works on the other core`
      : `two processes and the store share two cores, and a job costs ${both('errand').toFixed(1)} µs of them here, ${both(rival).toFixed(1)} µs with ${rival}`;
  };
  const rates = (processes: 1 | 2): Goal[] => {
    const what = `drain of no-op jobs, ${processes === 1 ? 'one process' : 'two processes'}`;
    const errand = measured('errand', processes, 'per_second');
    return [
      {
        what,
        against: 'the faster of graphile-worker and pg-boss',
        ...{ at: 'least', value: 2.5, stretch: 3, unit: '×' },
        seen: spreadOf(ratios(errand, best(peersInPostgres, processes))),
        short: why(peersInPostgres, processes),
      },
      {
        what,
        against: 'BullMQ, the faster of both',
        ...{ at: 'least', value: 4, stretch: 6, unit: '×' },
        seen: spreadOf(ratios(errand, best(others, processes))),
        short: why(others, processes),
      },
    ];
  };
  return [
    ...rates(1),
    ...rates(2),
    {
      what: 'database CPU to run a job at saturation',
      ...{ at: 'most', value: 20, stretch: 13, unit: 'µs/job' },
      seen: spreadOf(measured('errand', 1, 'store_us')),
    },
    {
      what: 'database CPU to run a job at saturation',
      against: 'pg-boss',
      ...{ at: 'most', value: 0.25, unit: '×' },
      seen: spreadOf(ratios(measured('errand', 1, 'store_us'), measured('pg-boss', 1, 'store_us'))),
    },
    {
      what: 'statements to enqueue and run a job at saturation',
      ...{ at: 'most', value: 0.05, stretch: 0.03, unit: '/job' },
      seen: spreadOf(measured('errand', 1, 'statements')),
    },
  ];
}

function linesOf(contenders: readonly Contender[], { kept, others: cores }: Rounds<Round>): Figure['lines'] {
  const line = (label: string, what: string, unit: string, pick: keyof Result) => ({
    what: `${label}: ${what}`,
    unit,
    spread: spreadOf(kept.map((round) => resultOf(round, label)[pick])),
  });
  return [
    ...contenders.flatMap((contender) => {
      const label = labelOf(contender);
      return [
        line(label, 'jobs run', '/s', 'per_second'),
        line(label, 'Node CPU', 'µs/job', 'node_us'),
        line(label, 'store CPU', 'µs/job', 'store_us'),
        ...(inPostgres.includes(contender.system)
          ? [line(label, 'statements, enqueue and run', '/job', 'statements')]
          : []),
      ];
    }),
    { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(cores) },
  ];
}

function resultOf(round: Round, label: string): Result {
  const result = round.get(label);
  if (result === undefined) throw new Error(`${label} was not taken`);
  return result;
}
