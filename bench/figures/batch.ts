// Figure: what a batch of 1,000 jobs saves over 1,000 single calls, jobs per second against jobs per second.
// Invariants: one server, up for all rounds; every job that was told as stored is a row in the end, and every row was told.
// Next room: served.ts, which puts a server under load.
import { calmRounds } from '../calm.ts';
import { acceptedOf, checkStored } from '../delivery.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { measure, pathOf, type Round, serve } from '../served.ts';

const batch = 1_000;
const job = { type: 'noop', payload };
const time = { warm_up_seconds: 1, seconds: 4 };

const orders = {
  single: { path: '/v1/jobs', body: JSON.stringify(job), connections: 64, ...time },
  batch: {
    path: '/v1/jobs/batch',
    body: JSON.stringify({ jobs: Array.from({ length: batch }, () => job) }),
    connections: 4,
    ...time,
  },
} as const;

type Way = keyof typeof orders;
type Pair = Record<Way, Round>;

const jobsOf = { single: 1, batch } as const;

export async function batches({ rounds = 6, ground, say }: FigureOptions): Promise<Figure> {
  const url = await ground.database('batch');
  const server = await serve([pathOf('../src/main.ts'), 'serve', '--migrate'], url);
  const all: Pair[] = [];
  try {
    const { kept, others, remarks } = await calmRounds<Pair>({
      rounds,
      server: ground.pid,
      say,
      async take(round) {
        const pair: Partial<Pair> = {};
        for (const way of inTurn<Way>(round, ['batch', 'single'])) {
          pair[way] = await measure(server, ground.pid, orders[way]);
        }
        all.push(pair as Pair);
        const { batch: many, single } = pair as Pair;
        say(`batch: ${Math.round(many.per_second * batch)} against ${Math.round(single.per_second)} jobs/s`);
        return pair as Pair;
      },
    });
    await deliveryCheck(url, all, ground.ask);
    const rates = (way: Way) => kept.map((pair) => pair[way].per_second * jobsOf[way]);
    const line = (way: Way, what: string, unit: string, pick: (round: Round) => number) => ({
      what: `${way}: ${what}`,
      unit,
      spread: spreadOf(kept.map((pair) => pick(pair[way]))),
    });
    return {
      name: 'batch',
      title: 'Submits in batches of 1,000 against single calls',
      goals: [
        {
          what: 'submits in batches of 1,000',
          against: 'single calls',
          ...{ at: 'least', value: 3, unit: '×' },
          seen: spreadOf(ratios(rates('batch'), rates('single'))),
        },
      ],
      lines: [
        ...(['batch', 'single'] as const).flatMap((way) => [
          line(way, 'jobs', '/s', (round) => round.per_second * jobsOf[way]),
          line(way, 'p50 of a call', 'ms', (round) => round.p50_ms),
          line(way, 'Node CPU', 'µs/job', (round) => round.node_us / jobsOf[way]),
          line(way, 'database CPU', 'µs/job', (round) => round.postgres_us / jobsOf[way]),
        ]),
        { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
      ],
      setup: {
        connections: '64 for single calls, 4 for batches',
        payload: `${payloadText.length} bytes`,
        'seconds each round': `${time.seconds} after ${time.warm_up_seconds} of warm-up`,
      },
      checks: ['number of jobs told as stored = rows in errand.job, and no other status', ...remarks],
    };
  } finally {
    await server.stop();
  }
}

async function deliveryCheck(
  url: string,
  pairs: readonly Pair[],
  ask: FigureOptions['ground']['ask'],
): Promise<void> {
  let told = 0;
  for (const pair of pairs) {
    for (const way of ['single', 'batch'] as const) told += acceptedOf(way, pair[way].statuses) * jobsOf[way];
  }
  const [row] = await ask<{ rows: number }>(url, 'select count(*)::int "rows" from errand.job');
  checkStored('batch', told, row?.rows ?? 0);
}
