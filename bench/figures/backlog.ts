// Figure: how fast jobs are run and taken in with a million and three millions waiting, against a queue that holds little.
// Invariants: all queues get as many new jobs as are run, and hold what they held again after each round; the oldest are
// run, so what waits stands behind them in the same lane; delivered = unique = finished, and the rest waits.
// Next room: inside.ts, which runs the first of many.
import { calmRounds } from '../calm.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import type { Ground } from '../ground.ts';
import {
  assertDelivered,
  freshStore,
  type Ran,
  runFirst,
  type Stock,
  slots,
  stockOf,
  submitEach,
  submitMany,
} from '../inside.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';

// `alone` is what keeps all slots taken until the clock stops.
const sizes = {
  short: { run: 6_000, alone: 6_000, million: 20_000, millions: 60_000 },
  long: { run: 60_000, alone: 6_000, million: 1_000_000, millions: 3_000_000 },
};

const depths = ['alone', 'million', 'millions'] as const;
type Depth = (typeof depths)[number];

interface Passage {
  ran: Ran;
  enqueued_per_s: number;
}

type Round = Record<Depth, Passage>;

export async function backlog({ rounds = 5, profile, ground, say }: FigureOptions): Promise<Figure> {
  const size = sizes[profile];
  const queues: Partial<Record<Depth, Queue>> = {};
  for (const depth of depths) queues[depth] = await fill(ground, depth, size[depth]);
  say(`backlog: ${depths.map((depth) => size[depth].toLocaleString('en')).join(', ')} wait`);
  // The compiler's warm-up and the first look at each store are nobody's.
  for (const depth of depths) await pass(ground, queues[depth] as Queue, size.run);
  const { kept, others, remarks } = await calmRounds<Round>({
    rounds,
    server: ground.pid,
    say,
    async take(round) {
      const taken: Partial<Round> = {};
      for (const depth of inTurn(round, depths)) {
        taken[depth] = await pass(ground, queues[depth] as Queue, size.run);
      }
      const all = taken as Round;
      say(`backlog: ${depths.map((depth) => Math.round(rateOf(all[depth]))).join(', ')} jobs/s`);
      return all;
    },
  });
  for (const depth of depths) {
    const { url, before, ran } = queues[depth] as Queue;
    assertDelivered(`backlog ${depth}`, before, ran, await stockOf(ground, url));
  }

  const of = (depth: Depth, pick: (passage: Passage) => number) => kept.map((round) => pick(round[depth]));
  const rates = (depth: Depth) => of(depth, rateOf);
  const cpu = (depth: Depth) => of(depth, ({ ran }) => ran.postgres_us / ran.jobs);
  const name = (depth: Depth) => `${size[depth].toLocaleString('en')} waiting`;
  return {
    name: 'backlog',
    title: 'Drain and enqueue with a backlog',
    goals: [
      {
        what: `drain with ${name('millions')}`,
        against: 'a queue of little more than what is run',
        ...{ at: 'least', value: 0.85, stretch: 1, unit: '×' },
        seen: spreadOf(ratios(rates('millions'), rates('alone'))),
      },
    ],
    lines: [
      {
        what: `drain with ${name('million')}, against ${name('alone')}`,
        unit: '×',
        spread: spreadOf(ratios(rates('million'), rates('alone'))),
      },
      ...depths.flatMap((depth) => [
        { what: `${name(depth)}: jobs run`, unit: '/s', spread: spreadOf(rates(depth)) },
        { what: `${name(depth)}: database CPU of the run`, unit: 'µs/job', spread: spreadOf(cpu(depth)) },
        {
          what: `${name(depth)}: jobs enqueued`,
          unit: '/s',
          spread: spreadOf(of(depth, (passage) => passage.enqueued_per_s)),
        },
      ]),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      run: `the oldest ${size.run.toLocaleString('en')} jobs, ${slots.toLocaleString('en')} slots in one process`,
      filled: 'by the batch verb, 500 jobs a call; what each round adds by single submits, 1,000 in flight',
      payload: `${payloadText.length} bytes`,
      statistics: 'vacuum (analyze) after the fill',
      clock: 'first handler call until the last one that was asked for, all slots taken at both ends',
    },
    checks: [
      'delivered = unique = finished in each queue, and all other jobs wait',
      'nothing is left leased',
      ...remarks,
    ],
  };
}

interface Queue {
  url: string;
  depth: number;
  before: Stock;
  ran: Ran[];
}

async function fill(ground: Ground, name: Depth, depth: number): Promise<Queue> {
  const url = await freshStore(ground, `backlog_${name}`);
  const before = await stockOf(ground, url);
  await submitMany(url, depth);
  await ground.ask(url, 'vacuum (analyze)');
  return { url, depth, before, ran: [] };
}

/** Adds as many jobs as are then run. */
async function pass(ground: Ground, queue: Queue, jobs: number): Promise<Passage> {
  const { url, depth } = queue;
  const { waiting } = await stockOf(ground, url);
  const missing = depth + jobs - waiting;
  const seconds = await submitEach(url, missing);
  const ran = await runFirst(ground, url, jobs);
  queue.ran.push(ran);
  return { ran, enqueued_per_s: missing / seconds };
}

function rateOf({ ran }: Passage): number {
  return ran.jobs / ran.seconds;
}
