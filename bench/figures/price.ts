// Figure: the price of each feature: what a job that uses it costs the database more than a plain one, at its enqueue and
// at its run.
// Invariants: one store for all of a round, features in an order that alternates; WAL and CPU are those of the cluster,
// where nothing else runs; every job is finished and none is left, so what a feature does later is in its price.
// Next room: meter.ts, which counts; docs/storage.md, "Price", where the figures are kept.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Submission } from '../../src/actions/submit.ts';
import { defineHandler, type HandlerContext, JobError } from '../../src/errand.ts';
import { calmRounds } from '../calm.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import type { Ground } from '../ground.ts';
import { freshStore, noop, open, slots, stockOf, submitEach } from '../inside.ts';
import { inTurn, spreadOf } from '../measure.ts';
import { priceOf, type Reading, untilEmpty } from '../meter.ts';
import { payloadText } from '../payload.ts';

const sizes = { short: 1_000, long: 20_000 };
const settle_in_jobs = 2_000;

interface Feature {
  /** The n-th job of a run; `mark` is another in every run, `hook` a URL that answers at once. */
  submission?: (n: number, mark: string, hook: string) => Partial<Submission>;
  run?: (context: HandlerContext) => unknown;
  /** How many jobs one becomes. */
  jobs?: number;
}

const features: Record<string, Feature> = {
  plain: {},
  'idempotency key': {
    submission: (n, mark) => ({
      idempotency: {
        tenant: 0,
        route: 'POST /v1/jobs',
        key: `order-${mark}-${n}`,
        print: Buffer.alloc(32, n),
      },
    }),
  },
  'unique key': {
    submission: (n, mark) => ({
      options: {
        unique: {
          key: `order-${mark}-${n}`,
          while: ['scheduled', 'queued', 'running', 'retrying'],
          on_conflict: 'return',
        },
      },
    }),
  },
  'one tag': { submission: (n) => ({ tags: [`customer:${n % 1_000}`] }) },
  'three tags': { submission: (n) => ({ tags: [`customer:${n % 1_000}`, 'region:eu', `order:${n}`] }) },
  'ten priorities, mixed': { submission: (n) => ({ priority: n % 10 }) },
  'delay of a second': { submission: () => ({ delay_ms: 1_000 }) },
  expires_at: {
    submission: () => ({ expires_at: new Date(Date.now() + 3_600_000).toISOString() }),
  },
  'callback, its push included': {
    submission: (_n, _mark, hook) => ({ options: { callback: { url: hook, events: ['succeeded'] } } }),
    jobs: 2,
  },
  'callback that is not due': {
    submission: (_n, _mark, hook) => ({ options: { callback: { url: hook, events: ['dead'] } } }),
  },
  'progress reported once': { run: (context) => context.progress({ done: 1 }) },
  'checkpoint kept once': { run: (context) => context.checkpoint({ line: 1 }) },
  'retried once': {
    run(context) {
      if (context.attempt === 1) throw new JobError('retryable', 'the first try fails');
    },
  },
  'a result of 24 bytes': { run: () => ({ invoice: 'inv_01JD8Z6' }) },
};
const names = Object.keys(features);

interface Price {
  enqueue: Reading;
  run: Reading;
}

type Round = Record<string, Price>;

export async function price({ rounds = 3, profile, ground, say }: FigureOptions): Promise<Figure> {
  const jobs = sizes[profile];
  const hook = await listen();
  let stores = 0;
  try {
    const { kept, others, remarks } = await calmRounds<Round>({
      rounds,
      server: ground.pid,
      say,
      take: (round) => takeAll(ground, `price_${stores++}`, inTurn(round, names), jobs, hook.url),
    });
    const spread = (name: string, phase: keyof Price, what: keyof Reading) =>
      spreadOf(kept.map((round) => (round[name] as Price)[phase][what]));

    return {
      name: 'price',
      title: 'The price of each feature, for each job that uses it',
      goals: [],
      lines: [
        ...names.flatMap((name) =>
          (['enqueue', 'run'] as const).flatMap((phase) => [
            { what: `${name}: WAL, ${phase}`, unit: 'B', spread: spread(name, phase, 'wal') },
            { what: `${name}: buffers, ${phase}`, unit: '', spread: spread(name, phase, 'buffers') },
            { what: `${name}: statements, ${phase}`, unit: '', spread: spread(name, phase, 'statements') },
            {
              what: `${name}: database CPU, ${phase}`,
              unit: 'µs',
              spread: spread(name, phase, 'postgres_us'),
            },
          ]),
        ),
        { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
      ],
      setup: {
        jobs: `${jobs.toLocaleString('en')} of each kind`,
        enqueue: 'single submits, 1,000 in flight',
        run: `handler in the process, ${slots.toLocaleString('en')} slots`,
        payload: `${payloadText.length} bytes`,
        CPU: 'in ticks of 10 ms, of the whole server, what it does when idle included: read it as a rough size',
      },
      checks: ['every job succeeded and nothing waits or is leased, after each kind', ...remarks],
    };
  } finally {
    hook.close();
  }
}

async function takeAll(
  ground: Ground,
  store: string,
  order: readonly string[],
  jobs: number,
  hook: string,
): Promise<Round> {
  const url = await freshStore(ground, store);
  // The first pages of tables and indexes cost more than those that follow.
  await take(ground, url, {}, settle_in_jobs, `${store}-0`, hook);
  const round: Round = {};
  for (const name of order) {
    round[name] = await take(ground, url, features[name] as Feature, jobs, `${store}-${name}`, hook);
  }
  return round;
}

async function take(
  ground: Ground,
  url: string,
  feature: Feature,
  jobs: number,
  mark: string,
  hook: string,
): Promise<Price> {
  const before = await stockOf(ground, url);
  const make = (n: number) => noop(feature.submission?.(n, mark, hook));
  const enqueue = await priceOf(ground, url, jobs, () => submitEach(url, jobs, make));
  const run = await priceOf(ground, url, jobs, () => runAll(ground, url, feature));
  const after = await stockOf(ground, url);
  const made = jobs * (feature.jobs ?? 1);
  if (after.succeeded - before.succeeded !== made || after.jobs - before.jobs !== made) {
    throw new Error(`${mark}: ${JSON.stringify({ before, after })} after ${made} jobs; no figure`);
  }
  return { enqueue, run };
}

const nothingLeft = `select not exists (select from errand.block) and not exists (select from errand.lease)
  and not exists (select from errand.later) "empty"`;

async function runAll(ground: Ground, url: string, { run }: Feature): Promise<void> {
  const handler = defineHandler({ type: 'noop', run: (_, context) => run?.(context) });
  const errand = await open(url, 'worker', [handler]);
  try {
    await untilEmpty(ground, url, nothingLeft);
  } finally {
    await errand.drain(true);
  }
}

/** A target that takes everything. */
async function listen(): Promise<{ url: string; close(): void }> {
  const server = createServer((request, response) => {
    request.resume().once('end', () => response.writeHead(204).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
