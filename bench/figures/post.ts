// Figure: what POST /v1/jobs costs over bare Fastify: one job for each request on 64 keep-alive connections, asked by raw
// sockets, which leave the machine to the server, and by an ordinary client, as callers ask.
// Invariants: both servers are whole processes that stay up for all rounds; every 202 is a row in the end, and every row
// was a 202.
// Next room: served.ts, which puts a server under load.
import { calmRounds, type Rounds } from '../calm.ts';
import { acceptedOf, checkStored } from '../delivery.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { measure, pathOf, type Round, type Server, serve } from '../served.ts';

const connections = 64;
const times = { short: { rounds: 8, seconds: 2 }, long: { rounds: 10, seconds: 4 } };
const warm_up_seconds = 1;
const least_rounds = 8;

const order = {
  path: '/v1/jobs',
  body: JSON.stringify({ type: 'noop', payload }),
  connections,
  warm_up_seconds,
};

type Name = 'errand' | 'fastify';
const names: Name[] = ['errand', 'fastify'];
type Pair = Record<Name, Round>;
const clients = ['sockets', 'undici'] as const;
type Client = (typeof clients)[number];
/** One round: the comparison by either client. */
type Asked = Record<Client, Pair>;

export async function post({ profile, ground, say, ...asked }: FigureOptions): Promise<Figure> {
  const { seconds } = times[profile];
  const rounds = asked.rounds ?? times[profile].rounds;
  const url = await ground.database('post');
  const programs: Record<Name, string[]> = {
    errand: [pathOf('../src/main.ts'), 'serve', '--migrate'],
    fastify: [pathOf('./contestants/fastify.ts')],
  };
  const servers: Partial<Record<Name, Server>> = {};
  const all: Asked[] = [];
  try {
    for (const name of names) servers[name] = await serve(programs[name], url);
    const taken = await calmRounds({
      rounds,
      server: ground.pid,
      say,
      async take(round) {
        const asked: Partial<Asked> = {};
        for (const client of clients) {
          const pair: Partial<Pair> = {};
          const asking = client === 'undici' ? { ...order, seconds, client } : { ...order, seconds };
          for (const name of inTurn(round, names)) {
            pair[name] = await measure(servers[name] as Server, ground.pid, asking);
          }
          const { errand, fastify } = pair as Pair;
          asked[client] = { errand, fastify };
          const rates = `${Math.round(errand.per_second)} against ${Math.round(fastify.per_second)}`;
          say(`post, ${client}: ${rates} requests/s`);
        }
        all.push(asked as Asked);
        return asked as Asked;
      },
    });
    // Rounds that were dropped put their rows there as well.
    return figureOf(taken, seconds, await deliveryCheck(url, all, ground.ask));
  } finally {
    await Promise.all(Object.values(servers).map((server) => server.stop()));
  }
}

function figureOf({ kept, others, remarks }: Rounds<Asked>, seconds: number, statements: number): Figure {
  const rates = (client: Client, name: Name) => kept.map((asked) => asked[client][name].per_second);
  const ratio = (client: Client) => spreadOf(ratios(rates(client, 'errand'), rates(client, 'fastify')));
  const line =
    (client: Client, name: Name) => (what: string, unit: string, pick: (round: Round) => number) => ({
      what: `${name}, ${client}: ${what}`,
      unit,
      spread: spreadOf(kept.map((asked) => pick(asked[client][name]))),
    });
  const linesOf = (client: Client, name: Name) => {
    const of = line(client, name);
    return [
      of('requests', '/s', (round) => round.per_second),
      of('p50', 'ms', (round) => round.p50_ms),
      of('p99', 'ms', (round) => round.p99_ms),
      of('Node CPU', 'µs/request', (round) => round.node_us),
      ...(name === 'errand' ? [of('database CPU', 'µs/request', (round) => round.postgres_us)] : []),
    ];
  };
  return {
    name: 'post',
    title: 'POST of one job, one process',
    goals: [
      {
        what: 'POST of one job',
        against: 'bare Fastify',
        ...{ at: 'least', value: 0.7, stretch: 0.9, unit: '×' },
        seen: ratio('sockets'),
        short:
          'the database (about 14 µs a request) and the load (about 10) share the two cores with the API: 0.7 leaves it 26 µs, with both cores busy all the time and no wait for the disk; a bare server alone takes 18',
      },
    ],
    lines: [
      ...clients.flatMap((client) => names.flatMap((name) => linesOf(client, name))),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
      { what: 'errand against fastify, undici', unit: '×', spread: ratio('undici') },
      { what: 'errand: statements', unit: '/request', spread: spreadOf([statements]) },
    ],
    setup: {
      connections: String(connections),
      clients: 'raw sockets at about 10 µs for each request; undici Pool, each in a process of its own',
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
  all: readonly Asked[],
  ask: FigureOptions['ground']['ask'],
): Promise<number> {
  const pairs = all.flatMap((asked) => clients.map((client) => asked[client]));
  for (const { fastify } of pairs) acceptedOf('post, bare Fastify', fastify.statuses);
  const accepted = pairs.reduce((sum, { errand }) => sum + acceptedOf('post', errand.statuses), 0);
  const [row] = await ask<{ rows: number; statements: number }>(
    url,
    `select (select count(*) from errand.job)::int "rows", (select sum(calls) from pg_stat_statements
       where dbid = (select oid from pg_database where datname = current_database()) and toplevel)::int statements`,
  );
  checkStored('post', accepted, row?.rows ?? 0);
  return (row?.statements ?? 0) / accepted;
}
