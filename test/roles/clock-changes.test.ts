// Schedules walked through both clock changes of a year in four zones, by the virtual clock: what fires is what was previewed
// before the first of them, slot for slot, whether time goes from slot to slot or over a change in one step.
// Next room: test/unit/clock-changes.test.ts, which holds the slots against an oracle.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from '../../src/store/sql.ts';
import { calling } from '../support/call.ts';
import type { TestErrand } from '../support/errand.ts';
import { type Movable, mismatches, movable, moveTo } from '../support/movable.ts';

/** When the clocks of a zone change in 2026: an hour, but for half an hour on Lord Howe. */
const changes = [
  ['Africa/Casablanca', '2026-02-15T02:00:00Z'],
  ['America/New_York', '2026-03-08T07:00:00Z'],
  ['Africa/Casablanca', '2026-03-22T02:00:00Z'],
  ['Europe/Berlin', '2026-03-29T01:00:00Z'],
  ['Australia/Lord_Howe', '2026-04-04T15:00:00Z'],
  ['Australia/Lord_Howe', '2026-10-03T15:30:00Z'],
  ['Europe/Berlin', '2026-10-25T01:00:00Z'],
  ['America/New_York', '2026-11-01T06:00:00Z'],
] as const;

const patterns = [
  ...[
    '30 2 * * *',
    '15 2 * * *',
    '*/20 2 * * *',
    '0,20,40 2 * * *',
    '0 * * * *',
    '*/15 * * * *',
    '0 0 * * *',
  ],
  // Where New York repeats an hour, and Lord Howe half of one.
  ...['30 1 * * *', '45 1 * * *', '*/20 1 * * *', '59 59 1 * * *', '*/10 1-2 * * *'],
];

const hour = 3_600_000;
const quarter = hour / 4;
const around = 26 * hour;
const january = new Date('2026-01-01T00:00:00Z');

interface Walked {
  name: string;
  timezone: string;
  cron: string;
  change: Date;
  from: Date;
  through: Date;
}

/** A slot as the preview shows it, and a clock change. */
interface Previewed {
  slots: { slot: string; note: string | null }[];
  clock_changes: { at: string }[];
}

/** One schedule for each change and pattern, which has slots for a day before and after the change. */
const walked: Walked[] = changes.flatMap(([timezone, moment]) =>
  patterns.map((cron) => {
    const change = new Date(moment);
    const [from, through] = [new Date(change.getTime() - around), new Date(change.getTime() + around)];
    const name = `${timezone} ${moment} ${cron}`.toLowerCase().replace(/\W+/g, '-').replace(/-$/, '');
    return { name, timezone, cron, change, from, through };
  }),
);

function definitionOf({ timezone, cron, from, through }: Walked): object {
  return {
    ...{ cron, timezone, starts_at: from.toISOString(), ends_at: through.toISOString() },
    ...{ max_lateness_seconds: 604_800, job: { type: 'walked' } },
  };
}

interface Fired {
  name: string;
  slot: Date;
  outcome: string;
  is_exact: boolean;
}
const ledger = sql<Fired>`
select c.name, s.slot, s.outcome, s.decided_at = s.slot is_exact
from errand.slot s join errand.schedule c on c.id = s.schedule_id order by c.name, s.slot`;

const isNear = (slot: Date, change: Date) => Math.abs(slot.getTime() - change.getTime()) <= 2 * hour;

/** Where time stops around a change, of which these slots were previewed. */
const ways: Record<string, (change: Date, slots: readonly Date[]) => number[]> = {
  'from slot to slot': (change, slots) => [
    ...new Set(slots.filter((slot) => isNear(slot, change)).map((slot) => slot.getTime())),
    change.getTime() + around,
  ],
  'over each change in one step': (change) => [change.getTime() + around],
};

for (const [way, stops] of Object.entries(ways)) {
  describe(`time that goes ${way}`, () => {
    let world: Movable;
    let errand: TestErrand;
    let fired: Map<string, Fired[]>;
    const previews = new Map<string, Previewed>();
    const call = calling(() => errand.url);

    /** All slots of a schedule as the API shows them, page by page. */
    async function preview(name: string): Promise<Previewed> {
      const all: Previewed = { slots: [], clock_changes: [] };
      for (let from = january.toISOString(); ; from = all.slots.at(-1)?.slot ?? from) {
        const { json } = await call.get(`/v1/schedules/${name}/preview?count=100&from=${from}`);
        all.slots.push(...json.slots);
        all.clock_changes.push(...json.clock_changes);
        if (json.slots.length < 100) return all;
      }
    }

    before(async () => {
      world = await movable(january);
      errand = await world.start({ ERRAND_LEDGER_DAYS: '400' });
      for (const one of walked) {
        const { status, json } = await call('PUT', `/v1/schedules/${one.name}`, definitionOf(one));
        assert.equal(status, 201, JSON.stringify(json));
        previews.set(one.name, await preview(one.name));
      }
      for (const [, moment] of changes) {
        const change = new Date(moment);
        const slots = walked
          .filter((one) => one.change.getTime() === change.getTime())
          .flatMap(({ name }) => previews.get(name)?.slots ?? [])
          .map(({ slot }) => new Date(slot));
        for (const stop of stops(change, slots).sort((a, b) => a - b))
          await moveTo(errand, world.db, new Date(stop));
      }
      fired = Map.groupBy(await world.db.many(ledger), ({ name }) => name);
    });
    after(() => world.end());

    test('fires what was previewed in January: no slot more, none less, none twice', () => {
      const slotsOf = (slots: readonly { slot: Date | string }[] = []) =>
        slots.map(({ slot }) => new Date(slot).toISOString());
      assert.deepEqual(
        Object.fromEntries(walked.map(({ name }) => [name, slotsOf(fired.get(name))])),
        Object.fromEntries(walked.map(({ name }) => [name, slotsOf(previews.get(name)?.slots)])),
      );
    });

    test('makes one job for each slot, and the job knows it', async () => {
      assert.deepEqual(await world.db.many(mismatches), []);
    });

    test('leaves a schedule that has ended without a next slot', async () => {
      const { n } = await world.db.one(sql<{ n: number }>`
        select count(*)::int n from errand.schedule where next_slot is not null or next_due is not null`);
      assert.equal(n, 0);
    });

    test('fires every quarter of an hour in real time, whatever the clocks on the wall do', () => {
      for (const { name, from, through } of walked.filter(({ cron }) => cron === '*/15 * * * *')) {
        const first = Math.ceil(from.getTime() / quarter) * quarter;
        const many = Math.floor((through.getTime() - first) / quarter) + 1;
        assert.deepEqual(
          fired.get(name)?.map(({ slot }) => slot.getTime()),
          Array.from({ length: many }, (_, n) => first + n * quarter),
        );
      }
    });

    test('was shown each change, and slots that it moved or repeated', () => {
      for (const { name, change } of walked.filter(({ cron }) => cron === '*/15 * * * *')) {
        const changed = previews.get(name)?.clock_changes.map(({ at }) => at);
        assert.ok(changed?.includes(change.toISOString()), `${name}: no change`);
      }
      const notes = new Set([...previews.values()].flatMap(({ slots }) => slots.map(({ note }) => note)));
      for (const note of ['gap', 'repeat_first', 'repeat_second']) assert.ok(notes.has(note), note);
    });

    if (way !== 'from slot to slot') return;
    test('fires each slot around a change in its moment', () => {
      const near = walked.flatMap(({ name, change }) =>
        (fired.get(name) ?? []).filter(({ slot }) => isNear(slot, change)),
      );
      assert.ok(near.length > 200, `only ${near.length} slots near a change`);
      for (const { name, slot, outcome, is_exact } of near)
        assert.deepEqual([outcome, is_exact], ['on_time', true], `${name} ${slot.toISOString()}`);
    });
  });
}
