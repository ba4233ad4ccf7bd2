// The process a contestant runs in: fills, drains and counts for whichever contestant it was started with.
// Invariants: the clock of a drain starts with the first handler call and ends when the store is seen empty, so neither
// start-up nor unfinished completions are counted for anybody; deliveries are counted past the end, so doubles show.
// Next room: errand.ts and graphile.ts, the contestants.
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { cpuOfServer } from '../accounts.ts';
import type { Answer, Asks, Contestant, Drained, Moment } from '../contestant.ts';
import { payload } from '../payload.ts';
import { nowOfMachine, trickle } from '../trickle.ts';

const [name = '', url = ''] = process.argv.slice(2);
const { contestant } = (await import(`./${name}.ts`)) as { contestant: Contestant };

const look_ms = 5;
const linger_ms = 300;

let underWay: { stop(): Promise<void> }[] = [];
let seen: Moment[] = [];
let awaited: { count: number; resolve: () => void } | undefined;
let cpuAtBegin = process.cpuUsage();

const answers: { [Name in keyof Asks]: (ask: Asks[Name]['ask']) => Promise<Asks[Name]['answer']> } = {
  async prepare() {
    await contestant.prepare(url);
    return null;
  },

  async fill({ count }) {
    const began = performance.now();
    await contestant.fill(url, count, payload);
    return { seconds: (performance.now() - began) / 1_000 };
  },

  drain: ({ count, concurrency, postmaster }) => drain(count, concurrency, postmaster),

  async begin({ workers, concurrency }) {
    seen = [];
    const started = Array.from({ length: workers }, () =>
      contestant.work(url, concurrency, (id) => {
        seen.push([id, nowOfMachine()]);
        if (seen.length === awaited?.count) awaited.resolve();
      }),
    );
    underWay = await Promise.all(started);
    cpuAtBegin = process.cpuUsage();
    return null;
  },

  async collect({ count = 0 }) {
    if (seen.length < count) {
      await new Promise<void>((resolve) => {
        awaited = { count, resolve };
      });
    }
    await pause(linger_ms);
    const { user, system } = process.cpuUsage(cpuAtBegin);
    await Promise.all(underWay.map((worker) => worker.stop()));
    return { ids: seen.map(([id]) => id), starts: seen, node_us: user + system };
  },

  async trickle(ask) {
    const producer = await contestant.produce(url, payload);
    try {
      return await trickle(ask, producer);
    } finally {
      await producer.close();
    }
  },
};

process.on('message', async ({ name: what, ...ask }: { name: keyof Asks }) => {
  try {
    reply({ value: await answers[what](ask as never) });
  } catch (error) {
    reply({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
});
process.on('disconnect', () => process.exit(0));

function reply(answer: Answer): void {
  process.send?.(answer);
}

async function drain(count: number, concurrency: number, postmaster: number): Promise<Drained> {
  const db = new pg.Client({ connectionString: url });
  await db.connect();
  const ids = new Set<string>();
  let delivered = 0;
  let began = 0;
  let cpu = process.cpuUsage();
  let server = 0;
  const { promise: allRan, resolve } = Promise.withResolvers<void>();
  const worker = await contestant.work(url, concurrency, (id) => {
    if (delivered === 0) {
      began = performance.now();
      cpu = process.cpuUsage();
      server = cpuOfServer(postmaster);
    }
    ids.add(id);
    if (++delivered === count) resolve();
  });
  await allRan;
  while (!(await isEmpty(db))) await pause(look_ms);
  const seconds = (performance.now() - began) / 1_000;
  const used = process.cpuUsage(cpu);
  const postgres_us = cpuOfServer(postmaster) - server;
  await pause(linger_ms);
  await worker.stop();
  await db.end();
  return { delivered, unique: ids.size, seconds, node_us: used.user + used.system, postgres_us };
}

async function isEmpty(db: pg.Client): Promise<boolean> {
  const { rows } = await db.query<{ empty: boolean }>(contestant.emptyQuery);
  return rows[0]?.empty === true;
}
