// Figure: what workers outside get done over HTTP, by the size of their leases, against handlers inside the process.
// Invariants: every way has a backlog and a database of its own, and the order alternates; the clock runs until the last
// completion is committed, for both; delivered = unique = enqueued = finished.
// Next room: puller.ts, the workers; contestants/stage.ts, the drain.
import { cpuOf, cpuOfServer } from '../accounts.ts';
import { calmRounds } from '../calm.ts';
import { enter } from '../contestant.ts';
import { checkDelivery } from '../delivery.ts';
import { drain } from '../drained.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import type { Ground } from '../ground.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';
import type { Pulled, PullOrder } from '../puller.ts';
import { answerFrom, pathOf, serve } from '../served.ts';

const ways = {
  'in-process drain': { jobs: 60_000, concurrency: 2_000 },
  'batch 500': { jobs: 60_000, loops: 4, batch: 500 },
  'batch 100': { jobs: 60_000, loops: 4, batch: 100 },
  'batch 10': { jobs: 16_000, loops: 4, batch: 10 },
  'batch 1': { jobs: 2_000, loops: 4, batch: 1 },
  '64 single pullers': { jobs: 8_000, loops: 64, batch: 1 },
} as const;

type Way = keyof typeof ways;
const names = Object.keys(ways) as Way[];

// Of the same process, before the clock starts.
const warm_up = 6_000;

/** `caller_us` is the CPU of the workers outside. */
interface Done {
  per_second: number;
  node_us: number;
  postgres_us: number;
  caller_us: number;
}

export async function pull({ rounds = 5, ground, say }: FigureOptions): Promise<Figure> {
  let databases = 0;
  const { kept, others, remarks } = await calmRounds<Record<Way, Done>>({
    rounds,
    server: ground.pid,
    say,
    async take(round) {
      const all: Partial<Record<Way, Done>> = {};
      for (const name of inTurn(round, names)) all[name] = await take(ground, name, `pull_${databases++}`);
      say(
        `pull: ${names.map((name) => `${name} ${Math.round(all[name]?.per_second ?? 0)}`).join(', ')} jobs/s`,
      );
      return all as Record<Way, Done>;
    },
  });
  const rates = (name: Way) => kept.map((round) => round[name].per_second);
  const line = (name: Way, what: string, pick: (done: Done) => number) => ({
    what: `${name}: ${what}`,
    unit: 'µs/job',
    spread: spreadOf(kept.map((round) => pick(round[name]))),
  });
  return {
    name: 'pull',
    title: 'Pull over HTTP',
    goals: [
      {
        what: 'pull in batches of 100',
        against: 'in-process drain',
        ...{ at: 'least', value: 0.35, stretch: 0.5, unit: '×' },
        seen: spreadOf(ratios(rates('batch 100'), rates('in-process drain'))),
        short:
          'two requests for each hundred jobs, an id for each job that is sealed and opened again, and the work of those who pull are on the two cores that the drain has to itself',
      },
    ],
    lines: [
      ...names.flatMap((name) => [
        { what: `${name}: jobs`, unit: '/s', spread: spreadOf(rates(name)) },
        line(name, 'Node CPU of Errand', (done) => done.node_us),
        line(name, 'database CPU', (done) => done.postgres_us),
        ...(name === 'in-process drain'
          ? []
          : [line(name, 'Node CPU of the workers', (done) => done.caller_us)]),
      ]),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      backlogs: names.map((name) => `${ways[name].jobs} (${name})`).join(', '),
      'warm-up': `${warm_up} jobs, by the same process`,
      pull: 'one server process, one process of workers with 4 loops that lease and complete; 64 for the single pullers',
      completions: 'as many in one call as were leased in one; alone for batch 1 and the single pullers',
      drain: `in-process handler, ${ways['in-process drain'].concurrency} slots`,
      payload: `${payloadText.length} bytes`,
      statistics: 'vacuum (analyze) between fill and clock',
    },
    checks: ['delivered = unique = enqueued = finished for each way in every round', ...remarks],
  };
}

async function take(ground: Ground, name: Way, database: string): Promise<Done> {
  const url = await ground.database(database);
  const way = ways[name];
  const done = 'batch' in way ? await pulled(ground, url, way) : await drained(ground, url, way);
  const [row] = await ground.ask<{ finished: number }>(
    url,
    `select count(*)::int finished from errand.outcome where status = 'succeeded'`,
  );
  const total = way.jobs + warm_up;
  if (row?.finished !== total) throw new Error(`${name}: ${row?.finished} of ${total} finished; no figure`);
  return done;
}

async function fill(ground: Ground, url: string, count: number): Promise<void> {
  const stage = enter('errand', url);
  try {
    await stage.ask('prepare', {});
    await stage.ask('fill', { count });
    await ground.ask(url, 'vacuum (analyze)');
  } finally {
    await stage.leave();
  }
}

type Batches = Extract<(typeof ways)[Way], { batch: number }>;

async function pulled(ground: Ground, url: string, { jobs, loops, batch }: Batches): Promise<Done> {
  await fill(ground, url, warm_up);
  const server = await serve([pathOf('../src/main.ts'), 'serve'], url, { ERRAND_ROLES: 'api' });
  try {
    const order = { port: server.port, loops };
    check(await answerFrom<Pulled>('./puller.ts', { ...order, batch: 100, count: warm_up }), warm_up);
    await fill(ground, url, jobs);
    const used = { node: cpuOf(server.pid), postgres: cpuOfServer(ground.pid) };
    const asked: PullOrder = { ...order, batch, count: jobs };
    const result = check(await answerFrom<Pulled>('./puller.ts', asked), jobs);
    return {
      per_second: jobs / result.seconds,
      node_us: (cpuOf(server.pid) - used.node) / jobs,
      postgres_us: (cpuOfServer(ground.pid) - used.postgres) / jobs,
      caller_us: result.node_us / jobs,
    };
  } finally {
    await server.stop();
  }
}

function check(result: Pulled, count: number): Pulled {
  checkDelivery('pullers', { enqueued: count, ids: result.ids });
  return result;
}

type Drain = Extract<(typeof ways)[Way], { concurrency: number }>;

async function drained(ground: Ground, url: string, { jobs, concurrency }: Drain): Promise<Done> {
  const stage = enter('errand', url);
  try {
    const shared = { concurrency, server: ground.pid };
    await stage.ask('prepare', {});
    await stage.ask('fill', { count: warm_up });
    await drain([stage], { count: warm_up, ...shared });
    await stage.ask('fill', { count: jobs });
    await ground.ask(url, 'vacuum (analyze)');
    const { ids, seconds, node_us, postgres_us } = await drain([stage], { count: jobs, ...shared });
    checkDelivery('the drain', { enqueued: jobs, ids });
    return {
      per_second: jobs / seconds,
      node_us: node_us / jobs,
      postgres_us: postgres_us / jobs,
      caller_us: 0,
    };
  } finally {
    await stage.leave();
  }
}
