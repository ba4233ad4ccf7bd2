// What an outage does to schedules, by the virtual clock: the service stopped for ten minutes or a week, up without a leader,
// or its clock jumped. What becomes of each slot was worked out by hand from docs/contract.md, for each policy.
// Signs: see `account` of test/support/movable.ts, such as `4m 5l 1t` = 4 missed, 5 late, 1 on time.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { CronExpressionParser } from 'cron-parser';
import type { Definition } from '../../src/domain/schedule.ts';
import type { Pool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';
import { calling } from '../support/call.ts';
import type { TestErrand } from '../support/errand.ts';
import { account, endJobs, type Movable, mismatches, movable, moveTo } from '../support/movable.ts';
import { keepSchedule } from '../support/schedules.ts';
import { until as untilTrue } from '../support/until.ts';

/** A second before it goes down, it fires what is due at 11:55. */
const up = new Date('2026-06-01T11:54:59Z');
const down = new Date('2026-06-01T11:55:00Z');

type Cadence = Pick<Definition, 'cron' | 'timezone' | 'every_seconds'>;
const utc = { timezone: 'UTC', cron: null, every_seconds: null };
const cadences = {
  minute: { ...utc, cron: '* * * * *' },
  seconds: { ...utc, every_seconds: 10 },
  hourly: { ...utc, cron: '@hourly' },
  noon: { ...utc, cron: '0 12 * * *' },
  daily: { ...utc, cron: '58 13 * * *', timezone: 'Europe/Madrid' },
} satisfies Record<string, Cadence>;

const policies = {
  latest_300: { misfire: 'fire_latest', max_lateness_seconds: 300 },
  latest_0: { misfire: 'fire_latest', max_lateness_seconds: 0 },
  latest_60: { misfire: 'fire_latest', max_lateness_seconds: 60 },
  latest_week: { misfire: 'fire_latest', max_lateness_seconds: 604_800 },
  all_300: { misfire: 'fire_all', max_lateness_seconds: 300, max_catch_up: 100 },
  three_300: { misfire: 'fire_all', max_lateness_seconds: 300, max_catch_up: 3 },
  three_0: { misfire: 'fire_all', max_lateness_seconds: 0, max_catch_up: 3 },
  three_60: { misfire: 'fire_all', max_lateness_seconds: 60, max_catch_up: 3 },
  skip_300: { misfire: 'skip', max_lateness_seconds: 300 },
  skip_60: { misfire: 'skip', max_lateness_seconds: 60 },
  skip_0: { misfire: 'skip', max_lateness_seconds: 0 },
} satisfies Record<string, Partial<Definition>>;

/** For a cadence and a policy: what happens with jobs that may overlap, and with each other way, idle and busy. */
interface Line {
  allow: string;
  /** As the others, where every earlier job has ended. */
  skip?: string;
  queue_one?: string;
  cancel_running?: string;
  /** Where the job of 11:55 has not ended. */
  busy?: { skip: string; queue_one: string; cancel_running: string };
}
type Table = { [C in keyof typeof cadences]?: { [P in keyof typeof policies]?: Line } };

const tenMinutes: Table = {
  minute: {
    latest_300: {
      allow: '4m 5l 1t',
      skip: '4m 1l 5o',
      queue_one: '4m 1l 1h 4o',
      cancel_running: '4m 5o 1t',
      busy: { skip: '4m 6o', queue_one: '4m 1h 5o', cancel_running: '4m 5o 1t' },
    },
    latest_0: { allow: '9m 1t' },
    latest_week: { allow: '9l 1t', skip: '1l 9o', queue_one: '1l 1h 8o', cancel_running: '9o 1t' },
    all_300: { allow: '4c 5l 1t', skip: '1c 9o', queue_one: '1c 1h 8o', cancel_running: '9o 1t' },
    three_300: {
      allow: '1m 3c 5l 1t',
      skip: '1m 1c 8o',
      queue_one: '1m 1c 1h 7o',
      cancel_running: '1m 8o 1t',
      busy: { skip: '1m 9o', queue_one: '1m 1h 8o', cancel_running: '1m 8o 1t' },
    },
    three_0: { allow: '6m 3c 1t' },
    skip_300: { allow: '4m 5l 1t' },
    skip_0: {
      allow: '9m 1t',
      skip: '9m 1t',
      queue_one: '9m 1t',
      cancel_running: '9m 1t',
      busy: { skip: '9m 1o', queue_one: '9m 1h', cancel_running: '9m 1t' },
    },
  },
  seconds: {
    latest_300: {
      allow: '29m 30l 1t',
      skip: '29m 1l 30o',
      queue_one: '29m 1l 1h 29o',
      cancel_running: '29m 30o 1t',
      busy: { skip: '29m 31o', queue_one: '29m 1h 30o', cancel_running: '29m 30o 1t' },
    },
    all_300: { allow: '29c 30l 1t' },
    three_300: { allow: '26m 3c 30l 1t' },
    three_0: { allow: '56m 3c 1t' },
    skip_0: { allow: '59m 1t' },
  },
  hourly: {
    latest_300: { allow: '1l' },
    latest_60: { allow: '1c', skip: '1c', queue_one: '1c', cancel_running: '1c' },
    three_60: { allow: '1c' },
    skip_60: { allow: '1m', skip: '1m', queue_one: '1m', cancel_running: '1m' },
  },
  noon: { latest_300: { allow: '1l' }, latest_60: { allow: '1c' }, skip_60: { allow: '1m' } },
};

const week: Table = {
  minute: {
    latest_300: { allow: '10079m 5l 1t', skip: '10079m 1l 5o' },
    all_300: { allow: '9979m 100c 5l 1t' },
    skip_0: { allow: '10084m 1t' },
  },
  seconds: {
    latest_300: { allow: '60479m 30l 1t', queue_one: '60479m 1l 1h 29o' },
    three_0: { allow: '60506m 3c 1t', cancel_running: '60506m 3o 1t' },
  },
  hourly: {
    latest_300: { allow: '168m 1t' },
    all_300: { allow: '68m 100c 1t' },
    latest_week: { allow: '168l 1t', skip: '1l 168o' },
  },
  noon: { latest_300: { allow: '7m 1t' }, all_300: { allow: '7c 1t' }, latest_week: { allow: '7l 1t' } },
  daily: {
    latest_300: { allow: '7m 1l' },
    latest_60: { allow: '7m 1c', skip: '7m 1c', queue_one: '7m 1c', cancel_running: '7m 1c' },
    skip_60: { allow: '8m' },
    three_300: { allow: '4m 3c 1l' },
    three_60: { allow: '5m 3c', skip: '5m 1c 2o', queue_one: '5m 1c 1h 1o', cancel_running: '5m 2o 1c' },
    latest_week: { allow: '1m 7l' },
  },
};

interface Kept {
  name: string;
  id: number;
  slots: readonly Date[];
  /** Of each slot from 11:55 on. */
  expected: string;
}

/** Keeps a schedule for each account in a table. */
async function keepAll(db: Pool, table: Table, through: Date): Promise<Kept[]> {
  const all: Kept[] = [];
  for (const [cadence, lines] of Object.entries(table)) {
    const when = cadences[cadence as keyof Table];
    const slots = slotsOf(when, up, through);
    const before = slots[0]?.getTime() === down.getTime() ? '1t ' : '';
    for (const [policy, { busy, ...idle }] of Object.entries<Line>(lines)) {
      const busily = Object.entries(busy ?? {}).map(([way, told]): [string, string] => [`${way}.busy`, told]);
      for (const [way, told] of [...Object.entries(idle), ...busily]) {
        const name = `${cadence}.${policy}.${way}`;
        const overlap = way.replace('.busy', '') as Definition['overlap'];
        const definition = { ...when, ...policies[policy as keyof typeof policies], overlap };
        all.push({ name, id: await keepSchedule(db, name, { definition }), slots, expected: before + told });
      }
    }
  }
  return all;
}

/** The slots in (after, through] by another library, or by counting. */
function slotsOf({ cron, timezone, every_seconds }: Cadence, after: Date, through: Date): Date[] {
  const slots: Date[] = [];
  if (every_seconds !== null) {
    const step = every_seconds * 1_000;
    for (let at = Math.floor(after.getTime() / step + 1) * step; at <= through.getTime(); at += step)
      slots.push(new Date(at));
    return slots;
  }
  const expression = CronExpressionParser.parse(cron ?? '', { currentDate: after, tz: timezone });
  for (let slot = expression.next().toDate(); slot <= through; slot = expression.next().toDate())
    slots.push(slot);
  return slots;
}

async function accounts(db: Pool, kept: readonly Kept[]): Promise<Record<string, string>> {
  const all: Record<string, string> = {};
  for (const { id, name, slots } of kept) all[name] = await account(db, id, slots);
  return all;
}

const worlds: Movable[] = [];
after(async () => {
  for (const world of worlds) await world.end();
});

async function worldAt(moment: Date): Promise<Movable> {
  const world = await movable(moment);
  worlds.push(world);
  return world;
}

/** Lets an outage pass over what was running when it began; answers who is there afterwards. */
type Outage = (world: Movable, running: TestErrand, until: Date) => Promise<TestErrand>;

const outages: Record<string, Outage> = {
  async 'the service stopped'(world, running, until) {
    await running.stop();
    await world.put(until);
    return world.start();
  },
  async 'the service up without a leader'(world, running, until) {
    const lost = running.next('leader.lost');
    await world.db.many(sql`
      update errand.leader set term = term + 1, holder = 'gone', length = interval '1 hour',
        until = clock_timestamp() + interval '1 hour'`);
    await lost;
    await calling(() => running.url).post('/test/clock', { now: until.toISOString() });
    assert.equal(
      (
        await world.db.one(sql<{ n: number }>`
      select count(*)::int n from errand.slot where slot > '2026-06-01T11:55:00Z'`)
      ).n,
      0,
    );
    await world.db.many(sql`update errand.leader set until = clock_timestamp()`);
    return running;
  },
  async 'the clock jumping'(_, running) {
    return running;
  },
};

const spans: [string, Date, Table][] = [
  ['ten minutes', new Date('2026-06-01T12:05:00Z'), tenMinutes],
  ['a week', new Date('2026-06-08T12:00:00Z'), week],
];

for (const [span, until, table] of spans) {
  for (const [how, pass] of Object.entries(outages)) {
    test(`after ${how} for ${span} each policy has done what it says`, async () => {
      const world = await worldAt(up);
      const { db } = world;
      const kept = await keepAll(db, table, until);
      const running = await world.start();
      await moveTo(running, db, down);
      await db.many(endIdleJobs);
      const back = await pass(world, running, until);
      await moveTo(back, db, until);
      const expected = Object.fromEntries(kept.map((one) => [one.name, one.expected]));
      assert.deepEqual(await accounts(db, kept), expected);
      assert.deepEqual(await db.many(mismatches), []);
      // They are asked after their successors are made, and nobody waits for that.
      await untilTrue(async () => (await db.many(unfinishedOfReplaced)).length === 0);

      await db.many(endJobs);
      await moveTo(back, db, new Date(until.getTime() + 1_000));
      const waited = Object.fromEntries(kept.map((one) => [one.name, one.expected.replace('1h', '1w')]));
      assert.deepEqual(await accounts(db, kept), waited);
      assert.deepEqual(await db.many(mismatches), []);
    });
  }
}

const endIdleJobs = sql<never>`
insert into errand.outcome (job_id, epoch, lane, attempt, prio, status)
select id, 1, lane, 1, 5, 'succeeded' from errand.job where options -> 'schedule' ->> 'name' not like '%.busy'`;

/** Jobs of 11:55 whose successor was to replace them. */
const unfinishedOfReplaced = sql<{ name: string }>`
select j.options -> 'schedule' ->> 'name' "name" from errand.job j
where j.options -> 'schedule' ->> 'name' like '%.cancel_running.busy'
  and (j.options -> 'schedule' ->> 'slot')::timestamptz = '2026-06-01T11:55:00Z'
  and not exists (select from errand.outcome o where o.job_id = j.id and o.status = 'cancelled')`;
