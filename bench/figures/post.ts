// Figure: what POST /v1/jobs costs over bare Fastify: one job for each request on 64 keep-alive connections.
// Invariants: both servers are whole processes that stay up for all rounds; every 202 is a row in the end, and every row
// was a 202.
// Next room: served.ts, which puts a server under load.
import { calmRounds, type Rounds } from '../calm.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { measure, pathOf, type Round, type Server, serve } from '../served.ts';

const connections = 64;
const seconds = 4;
const warm_up_seconds = 1;
const least_rounds = 8;

const order = {
  path: '/v1/jobs',
  body: JSON.stringify({ type: 'noop', payload }),
  connections,
  warm_up_seconds,
  seconds,
};

type Name = 'errand' | 'fastify';
type Pair = Record<Name, Round>;

export async function post({ rounds = 10, ground, say }: FigureOptions): Promise<Figure> {
  const url = await ground.database('post');
  const programs: Record<Name, string[]> = {
    errand: [pathOf('../../src/main.ts'), 'serve', '--migrate'],
    fastify: [pathOf('./contestants/fastify.ts')],
  };
  const servers: Partial<Record<Name, Server>> = {};
  const all: Pair[] = [];
  try {
    for (const name of ['errand', 'fastify'] as const) servers[name] = await serve(programs[name], url);
    const taken = await calmRounds({
      rounds,
      server: ground.pid,
      say,
      async take(round) {
        const pair: Partial<Pair> = {};
        for (const name of inTurn<Name>(round, ['errand', 'fastify'])) {
          pair[name] = await measure(servers[name] as Server, ground.pid, order);
        }
        const { errand, fastify } = pair as Pair;
        all.push({ errand, fastify });
        say(`post: ${Math.round(errand.per_second)} against ${Math.round(fastify.per_second)} requests/s`);
        return { errand, fastify };
      },
    });
    // Rounds that were dropped put their rows there as well.
    return figureOf(taken, await deliveryCheck(url, all, ground.ask));
  } finally {
    await Promise.all(Object.values(servers).map((server) => server.stop()));
  }
}

function figureOf({ kept, others, remarks }: Rounds<Pair>, statements: number): Figure {
  const rates = (name: Name) => kept.map((pair) => pair[name].per_second);
  const line = (name: Name, what: string, unit: string, pick: (round: Round) => number) => ({
    what: `${name}: ${what}`,
    unit,
    spread: spreadOf(kept.map((pair) => pick(pair[name]))),
  });
  return {
    name: 'post',
    title: 'POST of one job, one process',
    goals: [
      {
        what: 'POST of one job',
        against: 'bare Fastify',
        ...{ at: 'least', value: 0.7, stretch: 0.9, unit: '×' },
        seen: spreadOf(ratios(rates('errand'), rates('fastify'))),
      },
    ],
    lines: [
      ...(['errand', 'fastify'] as const).flatMap((name) => [
        line(name, 'requests', '/s', (round) => round.per_second),
        line(name, 'p50', 'ms', (round) => round.p50_ms),
        line(name, 'p99', 'ms', (round) => round.p99_ms),
        line(name, 'Node CPU', 'µs/request', (round) => round.node_us),
      ]),
      line('errand', 'database CPU', 'µs/request', (round) => round.postgres_us),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
      { what: 'errand: statements', unit: '/request', spread: spreadOf([statements]) },
    ],
    setup: {
      connections: String(connections),
      'seconds each round': `${seconds} after ${warm_up_seconds} of warm-up`,
      payload: `${payloadText.length} bytes`,
      'bare Fastify': 'the same request validated against a JSON schema, static 202 with Location',
      Errand: 'serve, all roles, no handler for the type',
    },
    checks: [
      'number of 202 = rows in errand.job, and no other status',
      ...(kept.length < least_rounds
        ? [`only ${kept.length} paired rounds: fewer than the ${least_rounds} a claim needs`]
        : []),
      ...remarks,
    ],
  };
}

/** Every 202 is a row and every row a 202; returns statements for each request. */
async function deliveryCheck(
  url: string,
  pairs: readonly Pair[],
  ask: FigureOptions['ground']['ask'],
): Promise<number> {
  for (const { statuses } of pairs.flatMap(({ errand, fastify }) => [errand, fastify])) {
    const other = Object.keys(statuses).filter((status) => status !== '202');
    if (other.length > 0) throw new Error(`answers other than 202: ${JSON.stringify(statuses)}; no figure`);
  }
  const accepted = pairs.reduce((sum, { errand: { statuses } }) => sum + (statuses['202'] ?? 0), 0);
  const [row] = await ask<{ rows: number; statements: number }>(
    url,
    `select (select count(*) from errand.job)::int "rows", (select sum(calls) from pg_stat_statements
       where dbid = (select oid from pg_database where datname = current_database()) and toplevel)::int statements`,
  );
  if (row?.rows !== accepted) throw new Error(`${accepted} answers of 202 but ${row?.rows} rows; no figure`);
  return row.statements / accepted;
}
