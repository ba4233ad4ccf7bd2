// Figure: what ten million finished jobs in the store cost those who enqueue and run: rates against an almost empty store,
// and the buffers that each verb of the store touches, against a store of 200,000.
// Invariants: the history is what the engine would have left, rows and statistics; new jobs go into a partition that holds
// half of it; delivered = unique = finished.
// Next room: touched.ts, which counts the buffers.
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
} from '../inside.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';
import { touched, type Verb, verbs } from '../touched.ts';

const sizes = {
  short: { finished: 400_000, few: 20_000, run: 6_000 },
  long: { finished: 10_000_000, few: 200_000, run: 60_000 },
};

// Two partitions meet here, so that both hold history.
const middle = 10_000_000;
const rows_per_statement = 500_000;
const old_payload = '{"order":"ord_01JD8Z6V4T3K9Q7M2X5N"}';

const stores = ['empty', 'history'] as const;
type Store = (typeof stores)[number];

interface Passage {
  ran: Ran;
  enqueued_per_s: number;
}

type Round = Record<Store, Passage>;

export async function history({ rounds = 5, profile, ground, say }: FigureOptions): Promise<Figure> {
  const size = sizes[profile];
  const finished = size.finished.toLocaleString('en');
  const { touched: few } = await openStore(ground, 'history_few', size.few);
  const open: Record<Store, Opened> = {
    empty: await openStore(ground, 'history_empty', 0),
    history: await openStore(ground, 'history_many', size.finished),
  };
  const many = open.history.touched;
  say(`history: ${finished} finished jobs made in ${Math.round(open.history.seconds)} s`);
  // The compiler's warm-up and the first look at each store are nobody's.
  for (const store of stores) await pass(ground, open[store], size.run);
  const { kept, others, remarks } = await calmRounds<Round>({
    rounds,
    server: ground.pid,
    say,
    async take(round) {
      const taken: Partial<Round> = {};
      for (const store of inTurn(round, stores)) taken[store] = await pass(ground, open[store], size.run);
      const all = taken as Round;
      say(`history: ${stores.map((store) => Math.round(rateOf(all[store]))).join(' against ')} jobs/s`);
      return all;
    },
  });
  for (const store of stores) {
    const { url, before, ran } = open[store];
    assertDelivered(`history ${store}`, before, ran, await stockOf(ground, url));
  }

  const of = (store: Store, pick: (passage: Passage) => number) => kept.map((round) => pick(round[store]));
  const compared = (pick: (passage: Passage) => number) => ratios(of('history', pick), of('empty', pick));
  const growth = (name: Verb) => many[name] / few[name];
  return {
    name: 'history',
    title: `${finished} finished jobs present`,
    goals: [
      {
        what: `drain with ${finished} finished jobs`,
        against: 'an empty store',
        ...{ at: 'least', value: 0.85, stretch: 1, unit: '×' },
        seen: spreadOf(compared(rateOf)),
      },
      {
        what: `enqueue with ${finished} finished jobs`,
        against: 'an empty store',
        ...{ at: 'least', value: 0.85, stretch: 1, unit: '×' },
        seen: spreadOf(compared(enqueueRateOf)),
      },
      {
        what: 'buffers of the verb that grows most',
        against: `${size.few.toLocaleString('en')} finished jobs`,
        ...{ at: 'most', value: 2, unit: '×' },
        seen: spreadOf([Math.max(...verbs.map(growth))]),
      },
    ],
    lines: [
      ...stores.flatMap((store) => [
        { what: `${store}: jobs run`, unit: '/s', spread: spreadOf(of(store, rateOf)) },
        {
          what: `${store}: database CPU of the run`,
          unit: 'µs/job',
          spread: spreadOf(of(store, ({ ran }) => ran.postgres_us / ran.jobs)),
        },
        { what: `${store}: jobs enqueued`, unit: '/s', spread: spreadOf(of(store, enqueueRateOf)) },
      ]),
      ...verbs.flatMap((name) => [
        {
          what: `${name}: buffers for 100 jobs, ${size.few.toLocaleString('en')} finished`,
          unit: '',
          spread: spreadOf([few[name]]),
        },
        { what: `${name}: the same, ${finished} finished`, unit: '', spread: spreadOf([many[name]]) },
      ]),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      history: `made by SQL, payloads of ${old_payload.length} bytes, over two partitions; vacuum (analyze) after it`,
      run: `${size.run.toLocaleString('en')} jobs a round, ${slots.toLocaleString('en')} slots in one process`,
      enqueue: 'single submits, 1,000 in flight',
      payload: `${payloadText.length} bytes`,
      buffers: 'pg_stat_statements, 100 jobs through each verb of the store, the second hundred of two',
    },
    checks: ['delivered = unique = finished in both stores; nothing is left leased', ...remarks],
  };
}

interface Opened {
  url: string;
  seconds: number;
  touched: Record<Verb, number>;
  before: Stock;
  ran: Ran[];
}

async function openStore(ground: Ground, name: string, finished: number): Promise<Opened> {
  const began = performance.now();
  const url = await freshStore(ground, name);
  if (finished > 0) await makeHistory(ground, url, finished);
  await ground.ask(url, 'vacuum (analyze)');
  const seconds = (performance.now() - began) / 1_000;
  return {
    ...{ url, seconds, touched: await touched(ground, url, await laneOf(ground, url)) },
    ...{ before: await stockOf(ground, url), ran: [] },
  };
}

/** Jobs that ran once and succeeded, in blocks of 500, one every 10 ms until now. */
async function makeHistory(ground: Ground, url: string, count: number): Promise<void> {
  const lane = await laneOf(ground, url);
  const low = middle - count / 2;
  const high = low + count - 1;
  for (let from = low; from <= high; from += rows_per_statement) {
    const to = Math.min(high, from + rows_per_statement - 1);
    await ground.ask(
      url,
      `insert into errand.job (id, blk, created_at, lane, timeout_seconds, priority, max_attempts, payload)
       select n, n / 500 + 1, now() - ($3 - n) * interval '10 ms', $4, 60, 5, 8, $5
       from generate_series($1::bigint, $2::bigint) n`,
      [from, to, high, lane, old_payload],
    );
    await ground.ask(
      url,
      `insert into errand.outcome (job_id, epoch, attempt, lane, prio, worker, started_at, finished_at, status)
       select n, 1, 1, $4, 5, 1, now() - ($3 - n) * interval '10 ms', now() - ($3 - n) * interval '10 ms', 'succeeded'
       from generate_series($1::bigint, $2::bigint) n`,
      [from, to, high, lane],
    );
  }
  await ground.ask(
    url,
    `select setval('errand.job_id_seq', $1::bigint), setval('errand.block_seq', $1::bigint / 500 + 1)`,
    [high],
  );
}

async function laneOf(ground: Ground, url: string): Promise<number> {
  const [row] = await ground.ask<{ id: number }>(url, `select id from errand.lane where route = 'noop'`);
  return (row as { id: number }).id;
}

async function pass(ground: Ground, store: Opened, jobs: number): Promise<Passage> {
  const seconds = await submitEach(store.url, jobs);
  const ran = await runFirst(ground, store.url, jobs);
  store.ran.push(ran);
  return { ran, enqueued_per_s: jobs / seconds };
}

function rateOf({ ran }: Passage): number {
  return ran.jobs / ran.seconds;
}

function enqueueRateOf({ enqueued_per_s }: Passage): number {
  return enqueued_per_s;
}
