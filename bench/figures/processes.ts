// Figure: what a second process behind the same port (ERRAND_PROCESSES) gives and costs for single POSTs. It has no goal:
// load, database and processes share this machine, and what the second process can give is the cores they leave it.
// Invariants: both services stay up for all rounds, each on a database of its own; every 202 is a row in the end, and every
// row was a 202.
// Next room: served.ts, which puts a server under load; docs/guides/operations.md, which says when to use it.
import { calmRounds, type Rounds } from '../calm.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import type { Ground } from '../ground.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { measure, pathOf, type Round, type Server, serve } from '../served.ts';

const connections = 64;
const seconds = 4;
const warm_up_seconds = 1;

const order = {
  path: '/v1/jobs',
  body: JSON.stringify({ type: 'noop', payload }),
  connections,
  warm_up_seconds,
  seconds,
};

const counts = ['1', '2'] as const;
type Count = (typeof counts)[number];
type Each<T> = Record<Count, T>;

export async function processes({ rounds = 8, ground, say }: FigureOptions): Promise<Figure> {
  const urls: Each<string> = {
    1: await ground.database('processes_1'),
    2: await ground.database('processes_2'),
  };
  const servers: Partial<Each<Server>> = {};
  const all: Each<Round>[] = [];
  try {
    for (const count of counts) {
      const words = [pathOf('../src/main.ts'), 'serve', '--migrate'];
      servers[count] = await serve(words, urls[count], { ERRAND_PROCESSES: count });
    }
    const taken = await calmRounds({
      rounds,
      server: ground.pid,
      say,
      async take(round) {
        const seen: Partial<Each<Round>> = {};
        for (const count of inTurn(round, counts)) {
          seen[count] = await measure(servers[count] as Server, ground.pid, order);
        }
        const pair = seen as Each<Round>;
        all.push(pair);
        say(
          `processes: ${counts.map((count) => Math.round(pair[count].per_second)).join(' and ')} requests/s`,
        );
        return pair;
      },
    });
    for (const count of counts)
      await deliveryCheck(
        ground,
        urls[count],
        all.map((pair) => pair[count]),
      );
    return figureOf(taken);
  } finally {
    await Promise.all(Object.values(servers).map((server) => server.stop()));
  }
}

function figureOf({ kept, others, remarks }: Rounds<Each<Round>>): Figure {
  const of = (count: Count, pick: (round: Round) => number) => kept.map((pair) => pick(pair[count]));
  const compared = (pick: (round: Round) => number) => spreadOf(ratios(of('2', pick), of('1', pick)));
  const line = (count: Count, what: string, unit: string, pick: (round: Round) => number) => ({
    what: `${count === '1' ? '1 process' : '2 processes'}: ${what}`,
    unit,
    spread: spreadOf(of(count, pick)),
  });
  return {
    name: 'processes',
    title: 'POST of one job, 1 and 2 processes behind one port',
    goals: [],
    lines: [
      { what: '2 against 1: requests', unit: '×', spread: compared((round) => round.per_second) },
      { what: '2 against 1: Node CPU of a request', unit: '×', spread: compared((round) => round.node_us) },
      {
        what: '2 against 1: database CPU of a request',
        unit: '×',
        spread: compared((round) => round.postgres_us),
      },
      ...counts.flatMap((count) => [
        line(count, 'requests', '/s', (round) => round.per_second),
        line(count, 'p50', 'ms', (round) => round.p50_ms),
        line(count, 'p99', 'ms', (round) => round.p99_ms),
        line(count, 'Node CPU', 'µs/request', (round) => round.node_us),
        line(count, 'database CPU', 'µs/request', (round) => round.postgres_us),
      ]),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      connections: String(connections),
      'seconds each round': `${seconds} after ${warm_up_seconds} of warm-up`,
      payload: `${payloadText.length} bytes`,
      cores: 'shared with the load and with Postgres: it can grow only where they leave some',
      Errand: 'serve, all roles, no handler for the type; both services up, one under load at a time',
    },
    checks: ['number of 202 = rows in errand.job for both, and no other status', ...remarks],
  };
}

async function deliveryCheck(ground: Ground, url: string, rounds: readonly Round[]): Promise<void> {
  for (const { statuses } of rounds) {
    if (Object.keys(statuses).some((status) => status !== '202'))
      throw new Error(`answers other than 202: ${JSON.stringify(statuses)}; no figure`);
  }
  const accepted = rounds.reduce((sum, { statuses }) => sum + (statuses['202'] ?? 0), 0);
  const [row] = await ground.ask<{ rows: number }>(url, 'select count(*)::int "rows" from errand.job');
  if (row?.rows !== accepted) throw new Error(`${accepted} answers of 202 but ${row?.rows} rows; no figure`);
}
