// Errand inside the bench's own process, for figures that look into it: they fill a store to a depth, run a part of what
// stands there, and count what that took.
// Invariants: a clock starts with the first handler call and stops with the last one asked for, while all slots are
// taken, so neither start nor tail is counted; what ran beyond that is counted by the delivery check.
// Next room: meter.ts, which counts; figures/backlog.ts, the first of those figures.
import type { Submission } from '../src/actions/submit.ts';
import { compose, type Errand } from '../src/compose.ts';
import { readConfig } from '../src/config.ts';
import { defineHandler, type Handler } from '../src/errand.ts';
import { migrate } from '../src/store/migrate.ts';
import { cpuOfServer } from './accounts.ts';
import { submission } from './contestants/errand.ts';
import { checkCounts } from './delivery.ts';
import type { Ground } from './ground.ts';
import { payloadText } from './payload.ts';

/** Slots of a worker: promises, so many cost nothing. */
export const slots = 2_000;
const calls_in_flight = 1_000;
const jobs_per_batch = 500;
const batches_in_flight = 2;
const longest_wait_ms = 180_000;

/** What running some jobs gave. */
export interface Ran {
  jobs: number;
  seconds: number;
  node_us: number;
  postgres_us: number;
  /** Handler calls in all, those after the clock had stopped included, and how many different jobs they were for. */
  delivered: number;
  unique: number;
}

/** Starts Errand on a database. */
export function open(url: string, roles: string, handlers: readonly Handler[] = []): Promise<Errand> {
  const config = readConfig({
    DATABASE_URL: url,
    PORT: '0',
    ERRAND_LOG_LEVEL: 'warn',
    ERRAND_ROLES: roles,
    ERRAND_HANDLER_CONCURRENCY: String(slots),
  });
  return compose(config, { migrate: false, handlers, log: (line) => process.stderr.write(line) });
}

/** An empty database with the schema, in which the lane of the no-op jobs exists and one of them has run. */
export async function freshStore(ground: Ground, name: string): Promise<string> {
  const url = await ground.database(name);
  await migrate(url);
  await submitEach(url, 1);
  await runFirst(ground, url, 1);
  return url;
}

/** A no-op job with the payload of the bench, and what a figure gives it. */
export function noop(over: Partial<Submission> = {}): Submission {
  return { ...submission(payloadText), ...over };
}

/** Submits jobs one by one, many callers at once, as many clients would; answers how long that took, in s. */
export async function submitEach(
  url: string,
  count: number,
  make: (n: number) => Submission = () => noop(),
): Promise<number> {
  const errand = await open(url, 'api');
  try {
    const began = performance.now();
    let next = 0;
    const caller = async () => {
      while (next < count) await errand.actions.submit(make(next++));
    };
    await Promise.all(Array.from({ length: calls_in_flight }, caller));
    return (performance.now() - began) / 1_000;
  } finally {
    await errand.drain(true);
  }
}

/** Fills a store as fast as the batch verb does. */
export async function submitMany(url: string, count: number): Promise<void> {
  const errand = await open(url, 'api');
  try {
    let left = count;
    const caller = async () => {
      while (left > 0) {
        const size = Math.min(jobs_per_batch, left);
        left -= size;
        await errand.actions.submitAll(Array.from({ length: size }, () => noop()));
      }
    };
    await Promise.all(Array.from({ length: batches_in_flight }, caller));
  } finally {
    await errand.drain(true);
  }
}

/** Runs jobs until `count` handlers were called, then stops; what waits beyond them is left. */
export async function runFirst(ground: Ground, url: string, count: number): Promise<Ran> {
  const ids = new Set<string>();
  let delivered = 0;
  let began = 0;
  let cpu = process.cpuUsage();
  let server = 0;
  const { promise: ended, resolve, reject } = Promise.withResolvers<Omit<Ran, 'delivered' | 'unique'>>();
  const timer = setTimeout(
    () => reject(new Error(`only ${delivered} of ${count} jobs ran in ${longest_wait_ms} ms`)),
    longest_wait_ms,
  );
  const handler = defineHandler({
    type: 'noop',
    run(_, { job_id }) {
      if (delivered === 0) {
        began = performance.now();
        cpu = process.cpuUsage();
        server = cpuOfServer(ground.pid);
      }
      ids.add(job_id);
      if (++delivered !== count) return;
      const used = process.cpuUsage(cpu);
      resolve({
        jobs: count,
        seconds: (performance.now() - began) / 1_000,
        node_us: used.user + used.system,
        postgres_us: cpuOfServer(ground.pid) - server,
      });
    },
  });
  const errand = await open(url, 'worker', [handler]);
  try {
    const ran = await ended;
    // Claims go on until the drain has begun, and all that was claimed is run.
    await errand.drain(true);
    return { ...ran, delivered, unique: ids.size };
  } catch (error) {
    await errand.drain(true);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** What stands in a store. */
export interface Stock {
  jobs: number;
  succeeded: number;
  waiting: number;
  leased: number;
}

export async function stockOf(ground: Ground, url: string): Promise<Stock> {
  const [stock] = await ground.ask<Stock & Record<string, unknown>>(
    url,
    `select (select count(*) from errand.job)::float8 jobs,
       (select count(*) from errand.outcome where status = 'succeeded')::float8 succeeded,
       (select coalesce(sum(cardinality(ids) - pos), 0) from errand.block)::float8 waiting,
       (select coalesce(sum(cardinality(ids)), 0) from errand.lease)::float8 leased`,
  );
  return stock as Stock;
}

/** Throws unless every handler call was for another job and every job is either finished or waits. */
export function assertDelivered(what: string, before: Stock, ran: readonly Ran[], after: Stock): void {
  const delivered = ran.reduce((sum, one) => sum + one.delivered, 0);
  const unique = ran.reduce((sum, one) => sum + one.unique, 0);
  const finished = after.succeeded - before.succeeded;
  // What waits was enqueued too; how much of all was to be run is what the store says is gone.
  const enqueued = after.jobs - before.succeeded - after.waiting;
  checkCounts(what, { enqueued, delivered, unique, finished });
  if (after.leased !== 0) throw new Error(`${what}: ${after.leased} jobs are still leased; no figure`);
}
