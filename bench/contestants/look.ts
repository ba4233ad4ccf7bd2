// How the jobs of a contestant that lives in Postgres are looked at, from a connection of its own.
// Next room: stage.ts, which looks.
import pg from 'pg';
import type { Look } from '../contestant.ts';

interface Queries {
  /** One boolean `empty`: nothing waits and nothing runs. */
  empty: string;
  /** One number `finished`. */
  finished: string;
}

/** For systems without a history `finished` counts what is left, negative, and is added to what was enqueued. */
export async function lookAt(url: string, queries: Queries, keepsHistory = true): Promise<Look> {
  const db = new pg.Client({ connectionString: url, query_timeout: 60_000 });
  await db.connect();
  return {
    async isEmpty() {
      const { rows } = await db.query<{ empty: boolean }>(queries.empty);
      return rows[0]?.empty === true;
    },
    async finished(enqueued) {
      const { rows } = await db.query<{ finished: number }>(queries.finished);
      return (keepsHistory ? 0 : enqueued) + (rows[0]?.finished ?? Number.NaN);
    },
    close: () => db.end(),
  };
}
