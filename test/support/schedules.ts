// Why this room exists: tests of firing write schedules as the database keeps them, due when the test says so.
// Next room: src/store/slots.ts, src/actions/fire.ts.
import assert from 'node:assert/strict';
import type { Cancel } from '../../src/actions/cancel.ts';
import type { Chore } from '../../src/actions/chores.ts';
import { type FireOptions, firing } from '../../src/actions/fire.ts';
import { keeping } from '../../src/actions/keys.ts';
import { leading } from '../../src/actions/lead.ts';
import { Ready } from '../../src/actions/ready.ts';
import { Heads } from '../../src/domain/heads.ts';
import { unsetQueue } from '../../src/domain/queue-settings.ts';
import type { Definition, SlotOutcome, SlotReason } from '../../src/domain/schedule.ts';
import { EventBus, type Events } from '../../src/events.ts';
import type { Db, Pool } from '../../src/store/db.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';

/** A definition with every default: a slot each second. */
export function aDefinition(over: Partial<Definition> = {}): Definition {
  return {
    cron: null,
    timezone: 'UTC',
    every_seconds: 1,
    starts_at: null,
    ends_at: null,
    jitter_seconds: 0,
    misfire: 'fire_latest',
    max_lateness_seconds: 300,
    max_catch_up: 100,
    overlap: 'allow',
    job: { queue: 'default', type: 'scheduled', priority: 5, max_attempts: 8, timeout_seconds: 60 },
    ...over,
  };
}

export interface KeptSchedule {
  definition?: Partial<Definition>;
  payload?: string;
  /** How many seconds back its watermark lies: slots since then are due. */
  behind_seconds?: number;
  paused_seconds_ago?: number;
}

/** Puts a schedule into the database and answers its id. */
export async function keepSchedule(
  db: Db,
  name: string,
  { definition = {}, payload = '{}', behind_seconds = 0, paused_seconds_ago }: KeptSchedule = {},
): Promise<number> {
  const { id } = await db.one(keep, [
    name,
    JSON.stringify(aDefinition(definition)),
    payload,
    behind_seconds,
    paused_seconds_ago ?? null,
  ]);
  return id;
}

const keep = sql<{ id: number }>`
insert into errand.schedule (name, definition, payload, watermark, next_due, paused_at)
select $1, $2::jsonb, $3, m, m, errand.now() - $5::float8 * interval '1 s'
from (select errand.now() - $4::float8 * interval '1 s' m) x
returning id`;

/** What the ledger says of a schedule, in the order of time. */
export const ledgerOf = sql<{
  slot: Date;
  due_at: Date;
  outcome: SlotOutcome;
  reason: SlotReason | null;
  job_id: string | null;
  term: string | null;
  through: Date | null;
  slots: number | null;
}>`
select slot, due_at, outcome, reason, job_id, term, through, slots
from errand.slot where schedule_id = $1 order by slot`;

export interface Dispatching {
  chore: Chore;
  run(): Promise<number>;
  term: string;
  fenced: string[];
  cancelled: string[];
  failed: string[];
  decided: Events['slot.decided'][];
}

/** A process that leads, or believes that it does. */
export async function dispatching(db: Pool, over: Partial<FireOptions> = {}): Promise<Dispatching> {
  const lead = leading({ db, holder: 'tester', term_ms: 60_000 });
  const term = (await lead.campaign()) ?? (await lead.leader())?.term ?? '';
  const events = new EventBus();
  const [fenced, cancelled, failed]: [string[], string[], string[]] = [[], [], []];
  const decided: Events['slot.decided'][] = [];
  events.on('slot.decided', (event) => decided.push(event));
  events.on('schedule.failed', ({ schedule }) => failed.push(schedule));
  const cancel = {
    async cancel(id: string) {
      cancelled.push(id);
      return { kind: 'absent' };
    },
  } as unknown as Cancel;
  const ready = new Ready({
    heads: new Heads(),
    notify: async () => {},
    meet: () => undefined,
    onError: assert.ifError,
  });
  const lanes = new Lanes(db);
  const chore = firing({
    db,
    lanes,
    keys: keeping({
      ...{ db, lanes, ready, events, onError: assert.ifError },
      onEnded: () => {},
      onLater: () => {},
      onFree: () => {},
    }),
    cancel,
    events,
    policyOf: () => unsetQueue.defaults,
    isDrained: () => false,
    unknown: () => null,
    term: () => term,
    onFenced: (old) => fenced.push(old),
    onError: assert.ifError,
    ...over,
  });
  return { chore, run: async () => (await chore.run(false)).moved, term, fenced, cancelled, failed, decided };
}
