// Figure: jobs taken in 100 for each request, over HTTP, against boss.insert of 500 in process, which has no HTTP to pay
// for.
// Invariants: one server and one pg-boss process, up for all rounds; every job that was told as stored is in the store.
// Next room: batch.ts, batches against single calls.
import { calmRounds, type Rounds } from '../calm.ts';
import { enter } from '../contestant.ts';
import { acceptedOf, checkStored } from '../delivery.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { installPeers } from '../peers.ts';
import { measure, pathOf, type Round, serve } from '../served.ts';
import { placeFor, setupOf } from '../systems.ts';

const batch = 100;
const connections = 16;
const warm_up_seconds = 1;
const sizes = {
  short: { rounds: 3, seconds: 3, inserted: 40_000 },
  long: { rounds: 6, seconds: 4, inserted: 100_000 },
};

interface Pair {
  errand: Round;
  /** Jobs per second. */
  boss: number;
}

export async function bulk(options: FigureOptions): Promise<Figure> {
  const { ground, profile, say } = options;
  await installPeers(say);
  const { seconds, inserted } = sizes[profile];
  const rounds = options.rounds ?? sizes[profile].rounds;
  const url = await ground.database('bulk');
  const boss = await placeFor('pg-boss', 'bulk_pg_boss', options);
  const server = await serve([pathOf('../src/main.ts'), 'serve', '--migrate'], url);
  const stage = enter(boss.module, boss.url);
  const order = {
    path: '/v1/jobs/batch',
    body: JSON.stringify({ jobs: Array.from({ length: batch }, () => ({ type: 'noop', payload })) }),
    ...{ connections, warm_up_seconds, seconds },
  };
  let told = 0;
  let inserts = 0;
  const insert = async () => {
    inserts += inserted;
    return inserted / (await stage.ask('fill', { count: inserted })).seconds;
  };
  try {
    await stage.ask('prepare', {});
    await insert();
    const taken = await calmRounds<Pair>({
      rounds,
      most: profile === 'short' ? rounds + 1 : undefined,
      server: ground.pid,
      say,
      async take(round) {
        const pair: Partial<Pair> = {};
        for (const way of inTurn(round, ['errand', 'boss'] as const)) {
          if (way === 'boss') pair.boss = await insert();
          else {
            pair.errand = await measure(server, ground.pid, order);
            told += acceptedOf('bulk', pair.errand.statuses) * batch;
          }
        }
        const { errand, boss: rival } = pair as Pair;
        say(`bulk: ${Math.round(errand.per_second * batch)} against ${Math.round(rival)} jobs/s`);
        return pair as Pair;
      },
    });
    const count = async (at: string, table: string) =>
      (await ground.ask<{ rows: number }>(at, `select count(*)::int "rows" from ${table}`))[0]?.rows ?? 0;
    checkStored('Errand', told, await count(url, 'errand.job'));
    checkStored('pg-boss', inserts, await count(boss.url, `pgboss.job where name = 'noop'`));
    return figureOf(taken, {
      errand: `${batch} jobs for each request on ${connections} connections, ${seconds} s after ${warm_up_seconds} of warm-up`,
      ...(await setupOf(['pg-boss'], options)),
      'pg-boss, jobs each round': `${inserted}, after as many of warm-up in the same database`,
      payload: `${payloadText.length} bytes`,
    });
  } finally {
    await Promise.all([server.stop(), stage.leave()]);
  }
}

function figureOf({ kept, others, remarks }: Rounds<Pair>, setup: Record<string, string>): Figure {
  const errand = kept.map((pair) => pair.errand.per_second * batch);
  const boss = kept.map((pair) => pair.boss);
  const line = (what: string, unit: string, values: readonly number[]) => ({
    what,
    unit,
    spread: spreadOf(values),
  });
  return {
    name: 'bulk',
    title: 'POST of 100 jobs for each request against boss.insert without HTTP',
    goals: [
      {
        what: 'POST of 100 jobs for each request',
        against: 'boss.insert of 500, in process',
        ...{ at: 'least', value: 1.5, stretch: 3, unit: '×' },
        seen: spreadOf(ratios(errand, boss)),
      },
    ],
    lines: [
      line('errand: jobs', '/s', errand),
      line(
        'errand: p50 of a call',
        'ms',
        kept.map((pair) => pair.errand.p50_ms),
      ),
      line(
        'errand: Node CPU',
        'µs/job',
        kept.map((pair) => pair.errand.node_us / batch),
      ),
      line(
        'errand: database CPU',
        'µs/job',
        kept.map((pair) => pair.errand.postgres_us / batch),
      ),
      line('pg-boss: jobs', '/s', boss),
      line('CPU of others meanwhile', 'cores', others),
    ],
    setup,
    checks: ['number of jobs told as stored = jobs in the store, for both, and no other status', ...remarks],
  };
}
