// Drill: two dispatchers behind a real PgBouncer in transaction mode. Starts that would not work are refused with what to do;
// then leaders are killed and frozen, PgBouncer itself is killed, and Postgres goes away, and no slot is missed or doubled.
// Next room: test/support/pgbouncer.ts, the pooler; test/support/ledger-books.ts, the checker; docs/guides/pgbouncer.md.
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { exitOf } from '../support/children.ts';
import { freezeLeader, killLeader } from '../support/leader-faults.ts';
import { verdictOn } from '../support/ledger-books.ts';
import { plans } from '../support/oracle.ts';
import { type PgBouncer, startPgBouncer } from '../support/pgbouncer.ts';
import { startService } from '../support/process.ts';
import { type ScheduleRun, scheduleRun } from '../support/schedule-run.ts';
import type { Drill, Verdict } from './drill.ts';

const term_seconds = 3;

export const drill: Drill = {
  name: 'pooler',
  proves:
    'behind PgBouncer in transaction mode schedules miss nothing and double nothing, whatever is killed',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const [seconds, rounds] = profile === 'long' ? [300, 6] : [60, 1];
    const outage_seconds = 10;
    const run = await scheduleRun({ folder, term_seconds });
    const pooler = await startPgBouncer(run.url).catch((error: Error) => error);
    if (pooler instanceof Error) {
      await run.close();
      return { result: 'NOT RUN', reason: pooler.message };
    }
    const env = {
      DATABASE_URL: pooler.url,
      ERRAND_DIRECT_DATABASE_URL: run.url,
      ERRAND_POOLER: 'transaction',
    };
    try {
      await refusals(env);
      for (const n of [0, 1]) await run.start(n, env);
      await run.declare(plans(30, 70), seconds);
      await run.rest(5);
      const sessions = await sessionsSeen(pooler);
      let fenced = 0;
      for (let round = 0; round < rounds; round++) {
        await killLeader(run);
        await run.rest(3);
        fenced += await freezeLeader(run, 'placing');
        await pooler.restart();
        await run.rest(3);
        await run.stopPostgres();
        await pause(outage_seconds * 1_000);
        await run.startPostgres();
        await run.rest(5);
      }
      const books = await run.settle();
      say(`${books.in_ledger} of ${books.due} slots; ${fenced} writes refused, ${sessions} sessions shared`);
      const broken = brokenIn(run);
      if (broken !== undefined) return { result: 'FAIL', reason: `a replica said: ${broken}` };
      return verdictOn(books, {
        most_lateness_seconds: outage_seconds + 15,
        happened: {
          'one connection was given several sessions': sessions > 1,
          'a thawed leader tried to write': fenced > 0,
          'slots fell due while Postgres was away': books.lateness.max >= outage_seconds - 1,
        },
        figures: { seconds, rounds, fenced, sessions_of_one_connection: sessions },
        versions: { pgbouncer: pooler.version },
      });
    } finally {
      await run.close();
      await pooler.stop();
    }
  },
};

/** What must not start does not, and says why; then the role is given what it needs. */
async function refusals(env: Record<string, string>): Promise<void> {
  const { ERRAND_POOLER: _, ...untold } = env;
  const { ERRAND_DIRECT_DATABASE_URL: __, ...alone } = untold;
  await ends(untold, 'serve', 1, /DATABASE_URL leads through a pooler; set ERRAND_POOLER=transaction/);
  await ends(alone, 'serve', 1, /the address for migrations and LISTEN leads through a pooler/);
  await ends(env, 'serve', 1, /alter role .* in database .* set statement_timeout = '4000';/);
  await ends(env, 'migrate', 0, /alter role .* set jit = 'off'/);
  await ends(env, 'migrate', 0, /^the schema is up to date$/m);
}

async function ends(env: Record<string, string>, word: string, code: number, says: RegExp): Promise<void> {
  const one = await startService({ env, args: [word], awaitReady: false });
  const ended = await exitOf(one.child);
  if (ended !== code || !says.test(one.output())) {
    throw new Error(`errand ${word} ended with ${ended} and said: ${one.output()}`);
  }
}

/** Sessions that answered one connection, asked often. */
async function sessionsSeen({ url }: PgBouncer): Promise<number> {
  const client = new pg.Client({ connectionString: url, query_timeout: 5_000 });
  await client.connect();
  const seen = new Set<number>();
  try {
    for (let n = 0; n < 200; n++) {
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() pid');
      seen.add(rows[0]?.pid ?? 0);
      await pause(5);
    }
  } finally {
    await client.end();
  }
  return seen.size;
}

/** The first line in which a replica tells of a session that was not as it left it. */
function brokenIn({ replicas }: ScheduleRun): string | undefined {
  const lines = replicas.flatMap((replica) => replica.output().split('\n'));
  return lines.find((line) => /prepared statement|startup parameter|42P05|26000/.test(line));
}
