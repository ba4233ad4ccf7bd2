// The queue as an operator sees it: its record, its state, its tag.
// Invariants: a pause or drain that is not in force is not told of; If-Match compares what callers have changed, so a queue
// in which jobs come and go keeps its tag.
// Next room: http/queues.ts, which sends what is written here; queue-settings.ts, what can be set.
import { type QueueSettings, settingsFrom } from './queue-settings.ts';

/** What a queue does at present. A queue that is drained and paused is draining: that is what its submitters see. */
export const queueStates = ['active', 'paused', 'draining'] as const;
export type QueueState = (typeof queueStates)[number];

/** What the database says of a queue at `now`. */
export interface QueueFacts {
  name: string;
  exists: boolean;
  version: number;
  settings: Partial<QueueSettings>;
  /** Null: no pause is in force. */
  paused_at: Date | null;
  paused_until: Date | null;
  pause_reason: string | null;
  /** Null: it takes jobs. */
  draining_since: Date | null;
  drain_deadline: Date | null;
  drain_reason: string | null;
  /** Types that are paused on their own; times as text. */
  paused_types: readonly { type: string; since: string; until: string | null; reason: string | null }[];
  /** Jobs that run. */
  running: number;
  /** Whether any job waits: ready, delayed, between attempts or for its key. */
  has_waiting: boolean;
  /** Null: nobody has set anything of it. */
  created_at: Date | null;
  changed_at: Date | null;
  now: Date;
}

/** Whether no job of a queue is open. */
export function isEmpty({ running, has_waiting }: QueueFacts): boolean {
  return running === 0 && !has_waiting;
}

/** What a queue does at present. */
export function queueState({ draining_since, paused_at }: QueueFacts): QueueState {
  if (draining_since !== null) return 'draining';
  return paused_at === null ? 'active' : 'paused';
}

/** The strong, opaque ETag of a queue; what stands behind the version changes by itself. */
export function queueEtag(facts: QueueFacts): string {
  const { version, paused_at, paused_types } = facts;
  const marks = [paused_at !== null, isDone(facts), isOverdue(facts)].map(Number).join('');
  return `"${version}.${paused_types.length}.${marks}"`;
}

/** Tells whether one of the tags in `If-Match` names this version. */
export function namesQueueVersion(header: string, { version }: Pick<QueueFacts, 'version'>): boolean {
  const ours = new RegExp(`^"${version}\\.\\d+\\.[01]{3}"$`);
  return header.trim() === '*' || header.split(',').some((tag) => ours.test(tag.trim()));
}

/** The body of `GET /v1/queues/{queue}`. */
export function queueRecord(facts: QueueFacts) {
  const { name, running, paused_types } = facts;
  const settings = settingsFrom(facts.settings);
  // Named one by one: jsonb keeps an order of its own.
  const { sync, default_wait_seconds, require_idempotency_key, refuse_late_waits } = settings;
  const { max_depth, max_oldest_age_seconds, critical_priority, defaults, types } = settings;
  return {
    name,
    state: queueState(facts),
    ...{ sync, default_wait_seconds, require_idempotency_key, refuse_late_waits },
    ...{ max_depth, max_oldest_age_seconds, critical_priority, defaults, types },
    pause: pauseOf(facts),
    paused_types: paused_types.map(({ type, since, until, reason }) => ({
      type,
      since: new Date(since).toISOString(),
      until: until === null ? null : new Date(until).toISOString(),
      reason,
    })),
    drain: drainOf(facts),
    running,
    created_at: facts.created_at?.toISOString() ?? null,
    changed_at: facts.changed_at?.toISOString() ?? null,
  };
}

function pauseOf({ paused_at, paused_until, pause_reason }: QueueFacts) {
  if (paused_at === null) return null;
  return {
    since: paused_at.toISOString(),
    until: paused_until?.toISOString() ?? null,
    reason: pause_reason,
  };
}

function drainOf(facts: QueueFacts) {
  if (facts.draining_since === null) return null;
  return {
    since: facts.draining_since.toISOString(),
    deadline: facts.drain_deadline?.toISOString() ?? null,
    reason: facts.drain_reason,
    done: isDone(facts),
    overdue: isOverdue(facts),
  };
}

function isDone(facts: QueueFacts): boolean {
  return facts.draining_since !== null && isEmpty(facts);
}

function isOverdue(facts: QueueFacts): boolean {
  const { draining_since, drain_deadline, now } = facts;
  return draining_since !== null && drain_deadline !== null && drain_deadline <= now && !isEmpty(facts);
}
