// What operators have set, as every process remembers it: the turn that says whether anything changed, and all of it.
// Invariant: whoever writes errand.queue or errand.type_pause ends its transaction with `turnLevers`.
// Next room: actions/levers.ts, which remembers; queues.ts, which writes.
import type { QueueSettings } from '../domain/queue-settings.ts';
import { sql } from './sql.ts';

/** What the database says of a queue of which something was set. */
export interface SetQueue {
  name: string;
  settings: Partial<QueueSettings>;
  paused_at: Date | null;
  paused_until: Date | null;
  pause_reason: string | null;
  draining_since: Date | null;
  drain_deadline: Date | null;
  drain_reason: string | null;
  is_deleted: boolean;
}

/** A type that somebody paused. */
export interface PausedType {
  queue: string;
  type: string;
  paused_at: Date;
  paused_until: Date | null;
  reason: string | null;
}

/** Whether anything has changed, and the time by which pauses end. */
export const readTurn = sql<{
  turn: string;
  now: Date;
}>`select turn, errand.now() now from errand.lever_turn`;

/** Says that something has changed: to who looks by the turn, to who listens once the transaction commits. */
export const turnLevers = sql<{ turn: string }>`
with t as (update errand.lever_turn set turn = turn + 1 returning turn)
select turn, pg_notify('errand_levers', turn::text) from t`;

export const allQueues = sql<SetQueue>`
select name, settings, paused_at, paused_until, pause_reason, draining_since, drain_deadline, drain_reason,
  deleted_at is not null is_deleted
from errand.queue where tenant = $1 order by name`;

export const allTypePauses = sql<PausedType>`
select queue, type, paused_at, paused_until, reason from errand.type_pause where tenant = $1 order by queue, type`;
