// How the database is: whether it answers, takes writes and keeps what it confirms.
// Next room: telemetry/health.ts; tallies.ts for what the queues hold.
import { sql } from './sql.ts';

/** Whether the database answers and takes writes, and who leads there; `age_ms` is since when, `left_ms` what is left of the term. */
export const ping = sql<{
  read_only: boolean;
  term: string | null;
  holder: string | null;
  age_ms: number | null;
  left_ms: number | null;
}>`
select pg_is_in_recovery() or current_setting('transaction_read_only')::bool read_only, l.term, l.holder,
  extract(epoch from clock_timestamp() - l.since)::float8 * 1000 age_ms,
  extract(epoch from l.until - clock_timestamp())::float8 * 1000 left_ms
from (values ('dispatcher')) v(room) left join errand.leader l using (room)`;

export const durability = sql<{ fsync: string; synchronous_commit: string }>`
select current_setting('fsync') fsync, current_setting('synchronous_commit') synchronous_commit`;
