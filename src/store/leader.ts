// Leadership is a row: who holds the room, for which term, until when by the database's real clock. No session lock, which
// would die behind a pooler and at a failover without anybody noticing.
// Invariant: a term belongs to one holder for ever; a transaction that holds it (holdTerm) commits before another begins.
// Next room: actions/lead.ts, which campaigns; slots.ts, whose writes are fenced by the term.
import { sql } from './sql.ts';

/** The room of the dispatcher: whoever leads it fires schedules. */
export const dispatcherRoom = 'dispatcher';

export interface LeaderRow {
  term: string;
  holder: string;
  since: Date;
  until: Date;
  /** How long the holder has led, in s. */
  age_seconds: number;
  /** What is left of the term, in ms; negative once it is over. */
  left_ms: number;
  /**
   * Whether another may begin: the term is over, or would last longer than any renewal made it. The latter is what a
   * failover to a server whose clock is behind leaves, and nobody would lead until that clock has caught up.
   */
  is_free: boolean;
}

export const findLeader = sql<LeaderRow>`
select term, holder, since, until, greatest(0, extract(epoch from clock_timestamp() - since))::int age_seconds,
  extract(epoch from until - clock_timestamp())::float8 * 1000 left_ms,
  until <= clock_timestamp() or until > clock_timestamp() + 2 * length is_free
from errand.leader where room = $1`;

/** Takes a room that is free: $1 room, $2 holder, $3 length of the term in ms. No row: somebody holds it. */
export const campaign = sql<{ term: string }>`
insert into errand.leader as l (room, term, holder, length, since, until)
values ($1, 1, $2, $3::int * interval '1 ms', clock_timestamp(), clock_timestamp() + $3::int * interval '1 ms')
on conflict (room) do update set term = l.term + 1, holder = excluded.holder, length = excluded.length,
  since = excluded.since, until = excluded.until
where l.until <= clock_timestamp() or l.until > clock_timestamp() + 2 * l.length
returning term`;

/** Lengthens a term that has not ended: $1 room, $2 term, $3 from now on, in ms. No row: it has ended. */
export const renewTerm = sql<{ term: string }>`
update errand.leader set until = clock_timestamp() + $3::int * interval '1 ms', length = $3::int * interval '1 ms'
where room = $1 and term = $2::bigint and until > clock_timestamp() returning term`;

/** Ends a term before its time, so that another can begin. */
export const resignTerm = sql<{ term: string }>`
update errand.leader set until = clock_timestamp()
where room = $1 and term = $2::bigint and until > clock_timestamp() returning term`;

/** Holds a term for the rest of a transaction: no other begins before it commits. No row: the term is over. */
export const holdTerm = sql<{ term: string; now: Date }>`
select term, errand.now() now from errand.leader
where room = $1 and term = $2::bigint and until > clock_timestamp() for key share`;
