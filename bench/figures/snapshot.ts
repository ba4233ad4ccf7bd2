// Figure: what an open snapshot does to a queue. A REPEATABLE READ transaction stands open in the queue's database while
// jobs come one by one at a steady rate and are run; a burst is drained before it and at the end of it.
// Invariants: the snapshot is older than the first job of the load and still open when the last burst is drained; as many
// jobs as come under it have finished before, so that no index is a level higher in the end; the peers get as many jobs at the same rate; a queue nobody holds is drained beside it, to show what the machine did
// meanwhile; delivered = unique = finished.
// Next room: steady.ts, the load under which it stands.
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { enter } from '../contestant.ts';
import { checkDelivery } from '../delivery.ts';
import { drain } from '../drained.ts';
import type { Figure, FigureOptions, Line } from '../figure.ts';
import type { Ground } from '../ground.ts';
import {
  assertDelivered,
  freshStore,
  type Ran,
  runFirst,
  slots,
  stockOf,
  submitEach,
  submitMany,
} from '../inside.ts';
import { ratios, spreadOf } from '../measure.ts';
import type { Marked } from '../meter.ts';
import { payloadText } from '../payload.ts';
import { installPeers } from '../peers.ts';
import { perCall, type Slice, slices, steadyLoad, warm_up_ms } from '../steady.ts';
import { placeFor, type System, setupOf } from '../systems.ts';

const sizes = {
  short: { burst: 4_000, bursts: 1, held: 12_000 },
  // A process that starts reads what is dead once or twice: it should not be most of a burst.
  long: { burst: 60_000, bursts: 4, held: 200_000 },
};
type Size = (typeof sizes)['long'];

const per_second = 4_000;
const watched = ['submit', 'claim', 'settle'] as const satisfies readonly Marked[];

const peers = ['graphile-worker', 'pg-boss'] as const satisfies readonly System[];
type Peer = (typeof peers)[number];

/** Bursts before the snapshot and at its end. */
interface Bursts {
  before: Ran[];
  held: Ran[];
}

export async function snapshot(options: FigureOptions): Promise<Figure> {
  const { rounds = 1, profile, ground, say } = options;
  const size = sizes[profile];
  await installPeers(say);
  const own: Own[] = [];
  for (let round = 0; round < rounds; round++) {
    own.push(await takeOwn(ground, `snapshot_${round}`, size, say));
  }
  const other: Partial<Record<Peer, Bursts>> = {};
  for (const name of peers) {
    other[name] = await takePeer(options, name, size);
    say(`snapshot: ${name} ${show(rateRatios(other[name] as Bursts))}`);
  }

  const all = (pick: (one: Own) => readonly number[]) => spreadOf(own.flatMap((one) => [...pick(one)]));
  const bufferLines: Line[] = watched.flatMap((name) => [
    {
      what: `${name}: buffers, first slice`,
      unit: '/call',
      spread: all(({ slices }) => [perCall(slices[0], name)]),
    },
    {
      what: `${name}: buffers, last slice`,
      unit: '/call',
      spread: all(({ slices }) => [perCall(slices.at(-1), name)]),
    },
  ]);
  return {
    name: 'snapshot',
    title: 'A snapshot held open while jobs run',
    goals: [
      {
        what: 'drain under a held snapshot',
        against: 'before',
        ...{ at: 'least', value: 0.9, stretch: 1, unit: '×' },
        seen: all(({ bursts }) => rateRatios(bursts)),
      },
      {
        what: 'database CPU per job under a held snapshot',
        against: 'before',
        ...{ at: 'most', value: 1.2, stretch: 1, unit: '×' },
        seen: all(({ bursts }) => cpuRatios(bursts)),
      },
      {
        what: 'buffers of a claim, last part of the hold',
        against: 'its first part',
        ...{ at: 'most', value: 1.3, unit: '×' },
        seen: all(({ slices }) => [perCall(slices.at(-1), 'claim') / perCall(slices[0], 'claim')]),
      },
    ],
    lines: [
      { what: 'before: jobs run', unit: '/s', spread: all(({ bursts }) => bursts.before.map(rateOf)) },
      { what: 'held: jobs run', unit: '/s', spread: all(({ bursts }) => bursts.held.map(rateOf)) },
      { what: 'before: database CPU', unit: 'µs/job', spread: all(({ bursts }) => bursts.before.map(cpuOf)) },
      { what: 'held: database CPU', unit: 'µs/job', spread: all(({ bursts }) => bursts.held.map(cpuOf)) },
      {
        what: 'a queue nobody holds, drained at the same moments',
        unit: '×',
        spread: all(({ free }) => rateRatios(free)),
      },
      ...bufferLines,
      // Three buffers of a claim are the look-up of a job: bigger claims touch more.
      ...([0, -1] as const).map((at) => ({
        what: `claim: rows, ${at === 0 ? 'first' : 'last'} slice`,
        unit: '/call',
        spread: all(({ slices }) => [perCall(slices.at(at), 'claim', 'rows')]),
      })),
      { what: 'seconds held', unit: 's', spread: all(({ seconds }) => [seconds]) },
      ...[...new Set(own.flatMap(({ dead }) => Object.keys(dead)))].map((table) => ({
        what: `dead rows of ${table} at the end`,
        unit: '',
        spread: all(({ dead }) => [dead[table] ?? 0]),
      })),
      ...Object.entries(other).flatMap(([name, bursts]) => [
        { what: `${name}: drain, held against before`, unit: '×', spread: spreadOf(rateRatios(bursts)) },
        {
          what: `${name}: database CPU, held against before`,
          unit: '×',
          spread: spreadOf(cpuRatios(bursts)),
        },
      ]),
    ],
    setup: {
      load: `${size.held.toLocaleString('en')} jobs at ${per_second.toLocaleString('en')}/s, single submits, one process that takes in and runs`,
      bursts: `${size.bursts} of ${size.burst.toLocaleString('en')} jobs, ${slots.toLocaleString('en')} slots`,
      slices: `${slices} of the load, after ${warm_up_ms / 1_000} s of it`,
      payload: `${payloadText.length} bytes`,
      history: `${size.held.toLocaleString('en')} finished jobs before the first burst, for all`,
      peers: 'the same count at the same rate, in bulk calls',
      ...(await setupOf(peers, options)),
    },
    checks: [
      'delivered = unique = finished; nothing waits and nothing is leased in the end',
      'the snapshot saw none of the jobs that ran under it',
    ],
  };
}

interface Own {
  bursts: Bursts;
  /** The same bursts, at the same moments, in a database without a snapshot. */
  free: Bursts;
  slices: Slice[];
  dead: Record<string, number>;
  seconds: number;
}

async function takeOwn(ground: Ground, name: string, size: Size, say: (line: string) => void): Promise<Own> {
  const url = await freshStore(ground, name);
  const freeUrl = await freshStore(ground, `${name}_free`);
  const from = await stockOf(ground, url);
  const bursts: Bursts = { before: [], held: [] };
  const free: Bursts = { before: [], held: [] };
  const burst = async (where: string) => {
    await submitEach(where, size.burst);
    return runFirst(ground, where, size.burst);
  };
  const series = async (when: keyof Bursts) => {
    for (let i = 0; i < size.bursts; i++) {
      bursts[when].push(await burst(url));
      free[when].push(await burst(freeUrl));
    }
  };
  const history = async (where: string) => {
    await submitMany(where, size.held);
    return runFirst(ground, where, size.held);
  };
  const warmUp = await history(url);
  await history(freeUrl);
  await series('before');
  const held = await hold(url);
  const began = performance.now();
  const load = await steadyLoad(ground, url, size.held, per_second);
  await series('held');
  await held.release(size);
  const seconds = (performance.now() - began) / 1_000;
  const dead = await deadRows(ground, url);
  assertDelivered(
    name,
    from,
    [warmUp, ...bursts.before, load.ran, ...bursts.held],
    await stockOf(ground, url),
  );
  const claims = load.slices.map((slice) => Math.round(perCall(slice, 'claim')));
  say(`snapshot: ${show(rateRatios(bursts))}; buffers of a claim ${claims.join(', ')}`);
  return { bursts, free, slices: load.slices, dead, seconds };
}

/** Opens the transaction that everybody fears. */
async function hold(url: string) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const outcomes = async () => {
    const { rows } = await client.query<{ n: number }>('select count(*)::int n from errand.outcome');
    return (rows[0] as { n: number }).n;
  };
  await client.query('begin isolation level repeatable read');
  const seen = await outcomes();
  return {
    async release(size: Size) {
      const still = await outcomes();
      await client.query('commit');
      const now = await outcomes();
      await client.end();
      if (still !== seen || now - seen < size.held) throw new Error('the snapshot was not held; no figure');
    },
  };
}

async function deadRows(ground: Ground, url: string): Promise<Record<string, number>> {
  await pause(1_200);
  const rows = await ground.ask<{ name: string; dead: number }>(
    url,
    `select relname name, n_dead_tup::float8 dead from pg_stat_user_tables
     where schemaname = 'errand' and n_dead_tup > 1000 order by n_dead_tup desc`,
  );
  return Object.fromEntries(rows.map(({ name, dead }) => [name, dead]));
}

async function takePeer(options: FigureOptions, name: Peer, size: Size): Promise<Bursts> {
  const { ground } = options;
  const { module, concurrency, url } = await placeFor(name, `snapshot_${peers.indexOf(name)}_peer`, options);
  const stage = enter(module, url);
  const bursts: Bursts = { before: [], held: [] };
  const burst = async (): Promise<Ran> => {
    await stage.ask('fill', { count: size.burst });
    const drained = await drain([stage], { count: size.burst, concurrency, server: ground.pid });
    checkDelivery(name, { enqueued: size.burst, ids: drained.ids });
    return { jobs: size.burst, ...drained, delivered: size.burst, unique: size.burst };
  };
  const holder = new pg.Client({ connectionString: url });
  try {
    await stage.ask('prepare', {});
    await stage.ask('fill', { count: size.held });
    await drain([stage], { count: size.held, concurrency, server: ground.pid });
    await ground.ask(url, 'vacuum (analyze)');
    for (let i = 0; i < size.bursts; i++) bursts.before.push(await burst());
    await holder.connect();
    await holder.query('begin isolation level repeatable read');
    await holder.query('select 1 from pg_class limit 1');
    await stage.ask('begin', { workers: 1, concurrency });
    const began = performance.now();
    const each = per_second / 2;
    for (let filled = 0; filled < size.held; filled += each) {
      await stage.ask('fill', { count: Math.min(each, size.held - filled) });
      await pause(Math.max(0, began + ((filled + each) / per_second) * 1_000 - performance.now()));
    }
    await stage.ask('settled', {});
    const { ids } = await stage.ask('collect', {});
    checkDelivery(`${name} under the snapshot`, { enqueued: size.held, ids });
    for (let i = 0; i < size.bursts; i++) bursts.held.push(await burst());
    return bursts;
  } finally {
    await holder.end();
    await stage.leave();
  }
}

function rateOf({ jobs, seconds }: Ran): number {
  return jobs / seconds;
}

function cpuOf({ jobs, postgres_us }: Ran): number {
  return postgres_us / jobs;
}

function rateRatios({ before, held }: Bursts): number[] {
  return ratios(held.map(rateOf), before.map(rateOf));
}

function cpuRatios({ before, held }: Bursts): number[] {
  return ratios(held.map(cpuOf), before.map(cpuOf));
}

function show(values: readonly number[]): string {
  return values.map((value) => `${value.toFixed(2)} ×`).join(', ');
}
