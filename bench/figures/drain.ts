// Figure: how fast a backlog of no-op jobs is run by one process, against graphile-worker in its fastest preset.
// Invariants: every round takes all contestants on the same server with fresh databases and a warm-up drain in the same
// process; what autovacuum would do within a minute is done for all before the clock starts; delivered = unique =
// enqueued = finished or there is no figure; uniqueness is also held under four claimers that take blocks in part.
// Next room: contestants/stage.ts, which runs the clock.
import { calmRounds } from '../calm.ts';
import { type Drained, enter } from '../contestant.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import type { Ground } from '../ground.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { installPeers } from '../peers.ts';

const backlog = 60_000;
const warm_up = 6_000;
// Each at its own best: Errand's slots are promises, graphile's are loops with a local queue of 500 behind them.
const concurrency = { errand: 2_000, graphile: 24 };
const race_jobs = 12_000;
const race_concurrency = 7;

type System = keyof typeof concurrency;

// Without statistics graphile-worker's query takes a bad plan; that says nothing of an installation older than a minute,
// so it is shown and not held against it.
const names = ['errand', 'graphile', 'graphile, no statistics'] as const;
type Name = (typeof names)[number];

function systemOf(name: Name): System {
  return name === 'errand' ? 'errand' : 'graphile';
}

const finishedQuery = {
  errand: `select count(*)::int finished from errand.outcome where status = 'succeeded'`,
  // It keeps no history: what is not there any more is what it calls finished.
  graphile: `select $1::int - count(*)::int finished from graphile_worker._private_jobs`,
};

export async function drain({ rounds = 5, ground, say }: FigureOptions): Promise<Figure> {
  await installPeers(say);
  let databases = 0;
  const { kept, others, remarks } = await calmRounds({
    rounds,
    server: ground.pid,
    say,
    async take(round) {
      const drained: Partial<Record<Name, Drained>> = {};
      for (const name of inTurn(round, names)) {
        drained[name] = await drainOnce(ground, name, `drain_${databases++}`);
      }
      const all = drained as Record<Name, Drained>;
      const rates = names.map((name) => Math.round(backlog / all[name].seconds));
      say(`drain: ${rates.join(' against ')} jobs/s`);
      return all;
    },
  });
  await race(ground);
  say(`drain: ${race_jobs} jobs through four partial claimers, each delivered once`);

  const rates = (name: Name) => kept.map((pair) => backlog / pair[name].seconds);
  const each = (name: Name, what: 'node_us' | 'postgres_us') =>
    kept.map((pair) => pair[name][what] / backlog);
  return {
    name: 'drain',
    title: 'Drain of no-op jobs, one process',
    goals: [
      {
        what: 'drain of no-op jobs, one process',
        against: 'graphile-worker, fast preset',
        ...{ at: 'least', value: 2.5, stretch: 3, unit: '×' },
        seen: spreadOf(ratios(rates('errand'), rates('graphile'))),
      },
    ],
    lines: [
      ...names.flatMap((name) => [
        { what: `${name}: jobs run`, unit: '/s', spread: spreadOf(rates(name)) },
        { what: `${name}: Node CPU`, unit: 'µs/job', spread: spreadOf(each(name, 'node_us')) },
        { what: `${name}: database CPU`, unit: 'µs/job', spread: spreadOf(each(name, 'postgres_us')) },
      ]),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      backlog: `${backlog} jobs`,
      'warm-up': `${warm_up} jobs, in the same process`,
      'Errand handler concurrency': String(concurrency.errand),
      'graphile-worker': '0.18.0, localQueue.size 500, completeJobBatchDelay 0, failJobBatchDelay 0',
      'graphile concurrentJobs': String(concurrency.graphile),
      statistics: 'vacuum (analyze) between fill and drain, except where the line says otherwise',
      clock: 'first handler call until nothing waits and nothing runs in the store',
    },
    checks: [
      'delivered = unique = enqueued = finished in every round, for both',
      `${race_jobs} jobs through four claimers of ${race_concurrency} slots in two processes: each delivered once`,
      ...remarks,
    ],
  };
}

async function drainOnce(ground: Ground, name: Name, database: string): Promise<Drained> {
  const url = await ground.database(database);
  const system = systemOf(name);
  const stage = enter(system, url);
  try {
    const shared = { concurrency: concurrency[system], postmaster: ground.pid };
    await stage.ask('prepare', {});
    await stage.ask('fill', { count: warm_up });
    await stage.ask('drain', { count: warm_up, ...shared });
    await stage.ask('fill', { count: backlog });
    if (name !== 'graphile, no statistics') await ground.ask(url, 'vacuum (analyze)');
    const drained = await stage.ask('drain', { count: backlog, ...shared });
    const total = backlog + warm_up;
    const params = system === 'graphile' ? [total] : [];
    const [row] = await ground.ask<{ finished: number }>(url, finishedQuery[system], params);
    const { delivered, unique } = drained;
    if (delivered !== backlog || unique !== backlog || row?.finished !== total) {
      throw new Error(
        `${name} delivered ${delivered}, unique ${unique}, finished ${row?.finished} of ${total}; no figure`,
      );
    }
    return drained;
  } finally {
    await stage.leave();
  }
}

/** Prefetching many jobs at once hides double deliveries, so this race takes blocks in small bites. */
async function race(ground: Ground): Promise<void> {
  const url = await ground.database('drain_race');
  const stages = [enter('errand', url), enter('errand', url)] as const;
  try {
    await stages[0].ask('prepare', {});
    await stages[0].ask('fill', { count: race_jobs });
    await Promise.all(
      stages.map((stage) => stage.ask('begin', { workers: 2, concurrency: race_concurrency })),
    );
    await untilFinished(ground, url, race_jobs);
    const ids = (await Promise.all(stages.map((stage) => stage.ask('collect', {})))).map(({ ids }) => ids);
    const delivered = ids.flat();
    const unique = new Set(delivered).size;
    if (delivered.length !== race_jobs || unique !== race_jobs) {
      throw new Error(`four claimers delivered ${delivered.length}, unique ${unique} of ${race_jobs}`);
    }
    if (ids.some((one) => one.length === 0)) throw new Error('one process ran nothing: the race was none');
  } finally {
    await Promise.all(stages.map((stage) => stage.leave()));
  }
}

async function untilFinished(ground: Ground, url: string, count: number): Promise<void> {
  const giveUp = performance.now() + 120_000;
  for (;;) {
    const [row] = await ground.ask<{ finished: number }>(url, finishedQuery.errand);
    if (row?.finished === count) return;
    if (performance.now() > giveUp) throw new Error(`only ${row?.finished} of ${count} finished in 120 s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
