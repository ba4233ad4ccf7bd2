// Why this room exists: tests of schedules walk a service through days and outages by the virtual clock, from a moment of
// their choice, and compare what the ledger says of each slot with what they expect.
// Invariant: `account` takes every slot the test expects and every row of the ledger exactly once, or throws.
// Next room: schedules.ts, errand.ts; src/store/test-clock.ts.
import assert from 'node:assert/strict';
import type { Pool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';
import { prepareClock } from '../../src/store/test-clock.ts';
import { type Called, calling } from './call.ts';
import { startErrand, type TestErrand } from './errand.ts';
import { cloneDatabase, poolOn } from './postgres.ts';
import { ledgerOf } from './schedules.ts';
import { until } from './until.ts';

export interface Movable {
  url: string;
  db: Pool;
  /** Starts a service on this database. */
  start(env?: Record<string, string>): Promise<TestErrand>;
  /** Puts the clock to a moment behind everybody's back. */
  put(moment: Date): Promise<void>;
  /** Ends what was started, and the database. */
  end(): Promise<void>;
}

/** A database whose clock stands still at a moment. */
export async function movable(moment: Date): Promise<Movable> {
  const database = await cloneDatabase();
  const db = poolOn(database.url, 2);
  const started: TestErrand[] = [];
  await prepareClock(database.url, true);
  await db.many(putClock, [moment]);
  return {
    url: database.url,
    db,
    async start(env = {}) {
      const errand = await startErrand({
        databaseUrl: database.url,
        env: { ERRAND_TEST_CLOCK: 'true', ERRAND_TERM_SECONDS: '2', ...env },
      });
      started.push(errand);
      return errand;
    },
    async put(to) {
      await db.many(putClock, [to]);
    },
    async end() {
      for (const errand of started) await errand.stop();
      await db.end();
      await database.drop();
    },
  };
}

const putClock = sql<never>`update errand.test_clock set base = $1, since = null, moves = moves + 1`;

/** Moves the clock through a service, and waits until no slot is due that has not been decided. */
export async function moveTo(errand: TestErrand, db: Pool, moment: Date): Promise<void> {
  const move = () => calling(() => errand.url).post('/test/clock', { now: moment.toISOString() });
  const isDone = ({ json }: Called) => json.chores_done === true;
  await until(async () => isDone(await move()) && (await db.one(countDue)).due === 0, {
    what: `every slot is decided at ${moment.toISOString()}`,
    timeoutMs: 60_000,
  });
}

const countDue = sql<{ due: number }>`
select count(*)::int due from errand.schedule where next_due <= errand.now()`;

const signs: Readonly<Record<string, string>> = {
  'on_time ': 't',
  'late ': 'l',
  'caught_up ': 'c',
  'late overlap': 'w',
  'skipped misfire': 'm',
  'skipped overlap': 'o',
  'skipped paused': 'p',
};

/**
 * What became of each of these slots, in their order, as runs of signs, such as `5m 4l 1t`: on time, late, caught up,
 * waited; skipped for misfire, overlap, pause; h = it is held. Slots that share a row count one by one.
 */
export async function account(db: Pool, schedule_id: number, slots: readonly Date[]): Promise<string> {
  const { held } = await db.one(findHeld, [schedule_id]);
  const places = placesOf(slots);
  const told = slots.map(() => '?');
  for (const { slot, through, outcome, reason, slots: count } of await db.many(ledgerOf, [schedule_id])) {
    const first = places.get(slot.getTime());
    const last = places.get((through ?? slot).getTime());
    if (first === undefined || last === undefined)
      assert.fail(`${slot.toISOString()} is no slot, but in the ledger`);
    const many = last - first + 1;
    assert.equal(
      count,
      many - (through === null ? 0 : 1) > 10_000 ? null : many,
      'slots that share a row are counted',
    );
    for (let n = first; n <= last; n++) {
      assert.equal(told[n], '?', `${slots[n]?.toISOString()} is told of twice`);
      told[n] = signs[`${outcome} ${reason ?? ''}`] ?? `(${outcome} ${reason})`;
    }
  }
  const waiting = held === null ? undefined : places.get(held.getTime());
  if (waiting !== undefined) told[waiting] += 'h';
  const runs = told
    .join('')
    .replaceAll('?h', 'h')
    .matchAll(/(.)\1*/gu);
  return [...runs].map(([run, sign]) => `${run.length}${sign}`).join(' ');
}

/** The place of each moment; schedules of the same cadence share a list of many thousands. */
const known = new WeakMap<readonly Date[], ReadonlyMap<number, number>>();

function placesOf(slots: readonly Date[]): ReadonlyMap<number, number> {
  const found = known.get(slots) ?? new Map(slots.map((slot, n) => [slot.getTime(), n]));
  known.set(slots, found);
  return found;
}

const findHeld = sql<{ held: Date | null }>`select held from errand.schedule where id = $1`;

/** Slots that were fired without their job, skipped with one, and jobs of schedules without their slot. */
export const mismatches = sql<{ schedule_id: number | null; slot: Date | null; job_id: string | null }>`
with made as (
  select j.id, c.id schedule_id, (j.options -> 'schedule' ->> 'slot')::timestamptz slot
  from errand.job j left join errand.schedule c on c.name = j.options -> 'schedule' ->> 'name'
  where j.options ? 'schedule'
)
select s.schedule_id, s.slot, m.id job_id
from errand.slot s full join made m on m.schedule_id = s.schedule_id and m.slot = s.slot
where s.job_id is distinct from m.id or (s.outcome = 'skipped') <> (s.job_id is null) or s.schedule_id is null`;

/** Ends every open job. */
export const endJobs = sql<never>`
insert into errand.outcome (job_id, epoch, lane, attempt, prio, status)
select id, 1, lane, 1, 5, 'succeeded' from errand.job on conflict do nothing`;
