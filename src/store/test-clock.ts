// The clock that tests move: a database in test mode has a row that errand.now() is computed from. Without the test mode
// errand.now() stays what the migrations made it, and costs nothing.
// Invariants: the clock is put only under a database that never held a job or a schedule, and a process without the test mode serves none
// that has it; time never goes back; while it stands still it is the same to the microsecond for everybody.
// Next room: actions/test-clock.ts, which moves it.
import pg from 'pg';
import { sql } from './sql.ts';

/**
 * Puts the movable clock under a database, once; or, with `isMovable` false, makes sure that there is none. Throws, with
 * what to do, where the database is not made for that.
 */
export async function prepareClock(url: string, isMovable: boolean): Promise<void> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 5_000,
    query_timeout: 15_000,
  });
  client.on('error', () => {});
  await client.connect();
  try {
    if (isMovable) await layClock(client);
    else if ((await stateOf(client)).is_laid) {
      throw new Error(
        'the clock of this database can be moved by tests; set ERRAND_TEST_CLOCK=true, or use another database',
      );
    }
  } finally {
    await client.end();
  }
}

async function layClock(client: pg.Client): Promise<void> {
  // Replicas that start at once take turns; what fails is undone by the end of the connection.
  await client.query(`begin; set local lock_timeout = '10s'`);
  await client.query(`select pg_advisory_xact_lock(hashtext('errand.test_clock'))`);
  const { is_laid, is_used } = await stateOf(client);
  if (!is_laid && is_used) {
    throw new Error(
      'ERRAND_TEST_CLOCK=true is for a database of its own, and this one has held jobs or schedules; use a new one',
    );
  }
  if (!is_laid) await client.query(clock);
  await client.query('commit');
}

async function stateOf(client: pg.Client): Promise<{ is_laid: boolean; is_used: boolean }> {
  const { rows } = await client.query(
    `select to_regclass('errand.test_clock') is not null is_laid,
       is_called or exists (select from errand.schedule) is_used from errand.job_id_seq`,
  );
  return rows[0];
}

// At `since` it was `base`; without `since` it stands still.
const clock = `
create table errand.test_clock (
  one boolean primary key default true check (one),
  base timestamptz not null default now(),
  since timestamptz default now(),
  moves bigint not null default 0
);
insert into errand.test_clock default values;
create or replace function errand.now() returns timestamptz language sql stable parallel safe as
  'select base + greatest(now() - since, interval ''0'') from errand.test_clock'`;

/** What the clock shows; a higher `moves` is the later news. */
export interface ClockRow {
  now: Date;
  frozen: boolean;
  moves: string;
}

export const readClock = sql<ClockRow>`
select errand.now() "now", since is null frozen, moves from errand.test_clock`;

/**
 * Moves the clock: $1 to a time, or null; $2 on by seconds; $3 whether it stands still from now on, null = as it was. It
 * comes to rest on a whole ms, so that what was shown can be said again. No row: it would go back, or beyond the years
 * there are. Every process is told.
 */
export const moveClock = sql<ClockRow>`
update errand.test_clock set moves = moves + 1,
  base = date_trunc('milliseconds', interval '999 us' +
    coalesce($1::timestamptz, base + greatest(now() - since, interval '0') + $2::float8 * interval '1 s')),
  since = case when not coalesce($3::boolean, since is null) then now() end
where coalesce($1::timestamptz, base + greatest(now() - since, interval '0') + $2::float8 * interval '1 s')
  between base + greatest(now() - since, interval '0') and '9000-01-01Z'
returning base "now", since is null frozen, moves, pg_notify('errand_clock', '')`;
