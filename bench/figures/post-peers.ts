// Figure: POST of one job against the same route with boss.send, addJob or queue.add behind it, and what a unique
// idempotency key for each request costs.
// Invariants: all servers are whole processes that stay up for all rounds; every 202 is a job in the store, and every job
// was a 202.
// Next room: contestants/posting.ts, the route with a peer behind it.
import { calmRounds, type Rounds } from '../calm.ts';
import { enter } from '../contestant.ts';
import { acceptedOf, checkStored } from '../delivery.ts';
import type { Figure, FigureOptions, Goal } from '../figure.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { installPeers } from '../peers.ts';
import { measure, pathOf, type Round, type Server, serve } from '../served.ts';
import { type Place, placeFor, type System, setupOf, systems } from '../systems.ts';

const connections = 64;
const times = {
  short: { rounds: 3, seconds: 3 },
  long: { rounds: 8, seconds: 4 },
};
const warm_up_seconds = 1;

const all = Object.keys(systems) as System[];
const ways = [...all, 'errand, a key each'] as const;
type Way = (typeof ways)[number];
type Taken = Record<Way, Round>;

interface Standing {
  place: Place;
  server: Server;
}

export async function postPeers(options: FigureOptions): Promise<Figure> {
  const { ground, profile, say } = options;
  await installPeers(say);
  const { seconds } = times[profile];
  const rounds = options.rounds ?? times[profile].rounds;
  const standing = new Map<System, Standing>();
  const accepted = new Map<System, number>();
  try {
    for (const system of all) standing.set(system, await standUp(system, options));
    const taken = await calmRounds<Taken>({
      rounds,
      most: profile === 'short' ? rounds + 1 : undefined,
      server: ground.pid,
      say,
      async take(round) {
        const results: Partial<Taken> = {};
        for (const way of inTurn<Way>(round, ways)) {
          const system = way === 'errand, a key each' ? 'errand' : way;
          const { place, server } = standing.get(system) as Standing;
          const keys = system === way ? {} : { keys: `bench-${crypto.randomUUID()}-` };
          const time = { warm_up_seconds, seconds };
          const order = { path: '/v1/jobs', body, connections, ...time, ...keys };
          const result = await measure(server, place.server, order);
          accepted.set(system, (accepted.get(system) ?? 0) + acceptedOf(way, result.statuses));
          results[way] = result;
          say(`  post, ${way}: ${Math.round(result.per_second)} requests/s`);
        }
        return results as Taken;
      },
    });
    // Rounds that were dropped put their jobs there as well.
    for (const [system, { place }] of standing) {
      checkStored(system, accepted.get(system) ?? 0, await storedIn(system, place, ground.ask));
    }
    return figureOf(taken, {
      connections: String(connections),
      'seconds each round': `${seconds} after ${warm_up_seconds} of warm-up`,
      payload: `${payloadText.length} bytes`,
      Errand: 'serve, all roles, no handler for the type',
      peers:
        'Fastify, the same request validated against a JSON schema, 202 with Location once boss.send, addJob or queue.add has answered; one process each, default pools',
      ...(await versions(options)),
    });
  } finally {
    await Promise.all([...standing.values()].map(({ server }) => server.stop()));
  }
}

const body = JSON.stringify({ type: 'noop', payload });

async function standUp(system: System, options: FigureOptions): Promise<Standing> {
  const place = await placeFor(system, `post_${system.replaceAll(/\W/g, '_')}`, {
    ...options,
    errand: 'errand',
  });
  const words =
    system === 'errand'
      ? [pathOf('../src/main.ts'), 'serve', '--migrate']
      : [pathOf('./contestants/posting.ts'), place.module];
  return { place, server: await serve(words, place.url) };
}

const stored = {
  errand: 'select count(*)::int stored from errand.job',
  'graphile-worker': 'select count(*)::int stored from graphile_worker._private_jobs',
  'pg-boss': `select count(*)::int stored from pgboss.job where name = 'noop'`,
};

async function storedIn(
  system: System,
  { module, url }: Place,
  ask: FigureOptions['ground']['ask'],
): Promise<number> {
  if (system === 'BullMQ' || system === 'BullMQ, AOF') {
    const stage = enter(module, url);
    // Nothing runs them: none is done, so what is missing of none is what is there.
    const { finished } = await stage.ask('finished', { enqueued: 0 }).finally(() => stage.leave());
    return -finished;
  }
  const [row] = await ask<{ stored: number }>(url, stored[system]);
  return row?.stored ?? Number.NaN;
}

async function versions(options: FigureOptions): Promise<Record<string, string>> {
  const peers = all.filter((system) => system !== 'errand');
  const pairs = Object.entries(await setupOf(peers, options)).map(([system, words]) => [
    system,
    words.split(':', 1)[0] ?? '',
  ]);
  return Object.fromEntries(pairs);
}

function figureOf({ kept, others, remarks }: Rounds<Taken>, setup: Record<string, string>): Figure {
  const rates = (way: Way) => kept.map((round) => round[way].per_second);
  const goal = (against: System, words: string, value: number, stretch: number): Goal => ({
    what: 'POST of one job',
    against: words,
    ...{ at: 'least', value, stretch, unit: '×' },
    seen: spreadOf(ratios(rates('errand'), rates(against))),
  });
  const line = (way: Way, what: string, unit: string, pick: (round: Round) => number) => ({
    what: `${way}: ${what}`,
    unit,
    spread: spreadOf(kept.map((round) => pick(round[way]))),
  });
  return {
    name: 'post-peers',
    title: 'POST of one job against the same route over a peer',
    goals: [
      goal('pg-boss', 'Fastify + boss.send', 7, 9),
      goal('graphile-worker', 'Fastify + addJob', 10, 13),
      {
        ...goal('BullMQ', 'Fastify + queue.add, Redis without persistence', 1.3, 2),
        short:
          'both cost about as much CPU for a request, and that Redis never waits for a disk, where each 202 of Errand waits for its commit',
      },
    ],
    lines: [
      {
        what: 'Errand against Fastify + queue.add, Redis with AOF',
        unit: '×',
        spread: spreadOf(ratios(rates('errand'), rates('BullMQ, AOF'))),
      },
      {
        what: 'Errand with a unique idempotency key each against plain POST',
        unit: '×',
        spread: spreadOf(ratios(rates('errand, a key each'), rates('errand'))),
      },
      ...ways.flatMap((way) => [
        line(way, 'requests', '/s', (round) => round.per_second),
        line(way, 'p50', 'ms', (round) => round.p50_ms),
        line(way, 'p99', 'ms', (round) => round.p99_ms),
        line(way, 'Node CPU', 'µs/request', (round) => round.node_us),
        line(way, 'store CPU', 'µs/request', (round) => round.postgres_us),
      ]),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup,
    checks: ['number of 202 = jobs in the store of each system, and no other status', ...remarks],
  };
}
