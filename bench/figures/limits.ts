// Figure: what this database takes on this machine when nothing but rows is asked of it: one row for each commit by 1, 8
// and 32 connections, and a hundred by one and four. It stands in for pgbench, which is not always at hand, and is driven
// by the same driver as Errand. Bare Fastify is in post.ts, the bare HTTP client in push.ts.
// Invariant: every commit that was answered is there in the end.
// Next room: post.ts.
import pg from 'pg';
import { calmRounds } from '../calm.ts';
import { checkStored } from '../delivery.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { inTurn, spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';

const times = {
  short: { rounds: 1, seconds: 1 },
  long: { rounds: 3, seconds: 3 },
};

const loops = [
  { rows: 1, connections: 1 },
  { rows: 1, connections: 8 },
  { rows: 1, connections: 32 },
  { rows: 100, connections: 1 },
  { rows: 100, connections: 4 },
] as const;

const insert = {
  name: 'insert',
  text: 'insert into plain (payload) select p from unnest($1::text[]) p',
};

export async function limits(options: FigureOptions): Promise<Figure> {
  const { ground, profile, say } = options;
  const { seconds } = times[profile];
  const rounds = options.rounds ?? times[profile].rounds;
  const url = await ground.database('limits');
  await ground.ask(
    url,
    'create table plain (id bigint generated always as identity primary key, payload text)',
  );
  let told = 0;
  const { kept, others, remarks } = await calmRounds<number[]>({
    rounds,
    most: profile === 'short' ? rounds + 1 : undefined,
    server: ground.pid,
    say,
    async take(round) {
      const rates = loops.map(() => Number.NaN);
      for (const n of inTurn(round, [...loops.keys()])) {
        const { rows, connections } = loops[n] as (typeof loops)[number];
        const stored = await insertLoop(url, { rows, connections, seconds });
        told += stored;
        rates[n] = stored / seconds;
      }
      say(`limits: ${rates.map(Math.round).join(', ')} rows/s`);
      return rates;
    },
  });
  const [row] = await ground.ask<{ rows: number }>(url, 'select count(*)::int "rows" from plain');
  checkStored('the plain table', told, row?.rows ?? 0);
  return {
    name: 'limits',
    title: 'Limits: plain INSERT loops without any queue',
    goals: [],
    lines: [
      ...loops.map(({ rows, connections }, n) => ({
        what: `INSERT of ${rows === 1 ? 'one row' : `${rows} rows`} for each commit, ${connections} connection${connections === 1 ? '' : 's'}`,
        unit: 'rows/s',
        spread: spreadOf(kept.map((rates) => rates[n] as number)),
      })),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      table: 'one bigint key, one text; a prepared INSERT from an array, sent by the pg driver in a loop',
      'seconds each': String(seconds),
      payload: `${payloadText.length} bytes`,
    },
    checks: ['rows told as stored = rows there', ...remarks],
  };
}

/** Rows that were stored by connections that each send the next INSERT when the last is answered. */
async function insertLoop(
  url: string,
  { rows, connections, seconds }: { rows: number; connections: number; seconds: number },
): Promise<number> {
  const clients = Array.from(
    { length: connections },
    () => new pg.Client({ connectionString: url, query_timeout: 10_000 }),
  );
  const values = [Array.from({ length: rows }, () => payloadText)];
  let stored = 0;
  try {
    await Promise.all(clients.map((client) => client.connect()));
    const until = performance.now() + seconds * 1_000;
    await Promise.all(
      clients.map(async (client) => {
        while (performance.now() < until) {
          await client.query({ ...insert, values });
          stored += rows;
        }
      }),
    );
    return stored;
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}
