// The process a contestant runs in: fills, drains and counts for whichever contestant it was started with.
// Invariants: the clock of a drain starts with the first handler call and ends when the store is seen empty, so neither
// start-up nor unfinished completions are counted for anybody; deliveries are counted past the end, so doubles show.
// Next room: errand.ts and graphile.ts, the contestants.
import { setTimeout as pause } from 'node:timers/promises';
import { cpuOfServer } from '../accounts.ts';
import type { Answer, Asks, Contestant, Look, Moment, Progress } from '../contestant.ts';
import { payload } from '../payload.ts';
import { nowOfMachine, trickle } from '../trickle.ts';

const [name = '', url = ''] = process.argv.slice(2);
const { contestant } = (await import(`./${name}.ts`)) as { contestant: Contestant };

const look_ms = 5;
const serial_look_ms = 1;
const linger_ms = 300;
const patience_ms = 60_000;

let underWay: { stop(): Promise<void> }[] = [];
let seen: Moment[] = [];
let awaited: { count: number; resolve: () => void } | undefined;
let cpuAtBegin = process.cpuUsage();
let server: number | undefined;
let first: Progress['first'] = null;
let cpuAtFirst = process.cpuUsage();
let opened: Promise<Look> | undefined;

const answers: { [Name in keyof Asks]: (ask: Asks[Name]['ask']) => Promise<Asks[Name]['answer']> } = {
  async prepare() {
    await contestant.prepare(url);
    return null;
  },

  async fill({ count }) {
    return { seconds: await contestant.fill(url, count, payload) };
  },

  async begin({ workers, concurrency, server: pid }) {
    seen = [];
    first = null;
    server = pid;
    await look();
    const started = Array.from({ length: workers }, () => contestant.work(url, concurrency, onRun));
    underWay = await Promise.all(started);
    cpuAtBegin = process.cpuUsage();
    return null;
  },

  async progress() {
    const { user, system } = process.cpuUsage(cpuAtFirst);
    return { delivered: seen.length, first, node_us: user + system };
  },

  async empty() {
    return { isEmpty: await (await look()).isEmpty() };
  },

  async settled() {
    await untilEmpty(look_ms);
    return { at: nowOfMachine(), server_us: cpuOfStore() };
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

  async finished({ enqueued }) {
    return { finished: await (await look()).finished(enqueued) };
  },

  async trickle(ask) {
    const producer = await contestant.produce(url, payload);
    try {
      return await trickle(ask, producer);
    } finally {
      await producer.close();
    }
  },

  async serial({ count }) {
    seen = [];
    const producer = await contestant.produce(url, payload);
    const worker = await contestant.work(url, 1, onRun);
    for (let sent = 0; sent < count; sent++) {
      await producer.enqueue();
      await untilEmpty(serial_look_ms);
    }
    await worker.stop();
    await producer.close();
    return { ids: seen.map(([id]) => id) };
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

function onRun(id: string): void {
  if (first === null) {
    first = { at: nowOfMachine(), server_us: cpuOfStore() };
    cpuAtFirst = process.cpuUsage();
  }
  seen.push([id, nowOfMachine()]);
  if (seen.length === awaited?.count) awaited.resolve();
}

/** Where nobody asks for it, /proc is not read: that would be a delay in the first handler call. */
function cpuOfStore(): number {
  return server === undefined ? Number.NaN : cpuOfServer(server);
}

function look(): Promise<Look> {
  opened ??= contestant.look(url);
  return opened;
}

async function untilEmpty(every_ms: number): Promise<void> {
  const store = await look();
  const giveUp = performance.now() + patience_ms;
  while (!(await store.isEmpty())) {
    if (performance.now() > giveUp) throw new Error(`the store is not empty after ${patience_ms} ms`);
    await pause(every_ms);
  }
}
