// Why this room exists: a handler whose effects can be counted from outside: every start and every end is a row in a
// database on which no fault acts.
// Next room: test/support/crash.ts, which counts them.
import pg from 'pg';
import { defineHandler } from '../../../src/errand.ts';

const pool = new pg.Pool({ connectionString: process.env.EFFECTS_URL ?? '', max: 5 });
pool.on('error', () => {});

export default defineHandler<{ n: number }>({
  type: 'effect',
  async run({ n }, { job_id, epoch, attempt }) {
    await pool.query('insert into effect (job_id, epoch, attempt, holder) values ($1, $2, $3, $4)', [
      job_id,
      epoch,
      attempt,
      'handler',
    ]);
    return { n };
  },
});
