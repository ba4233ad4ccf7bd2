// Why this room exists: delays, backoff, leases and expiry are measured by errand.now(); a test that is about an hour
// moves that clock instead of waiting.
// Invariant: only the database of the test is touched.
import pg from 'pg';

export interface TestClock {
  /** Moves the database's clock forward. */
  forward(seconds: number): Promise<void>;
  end(): Promise<void>;
}

/** Puts a movable clock under a database. */
export async function moveClock(databaseUrl: string): Promise<TestClock> {
  const client = new pg.Client({ connectionString: databaseUrl });
  client.on('error', () => {});
  await client.connect();
  await client.query(`create table errand.test_clock as select interval '0' ahead`);
  await client.query(
    `create or replace function errand.now() returns timestamptz language sql stable
     as 'select now() + (select ahead from errand.test_clock)'`,
  );
  return {
    async forward(seconds) {
      await client.query(`update errand.test_clock set ahead = ahead + $1 * interval '1 s'`, [seconds]);
    },
    end: () => client.end(),
  };
}
