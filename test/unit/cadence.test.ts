// Proves that a cadence walks one way only and misses nothing, that its shortcuts (memory, counting by whole days, going
// back) find what walking finds, and that it agrees with another cron library where that one is right.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CronExpressionParser } from 'cron-parser';
import { Cron } from 'croner';
import fc from 'fast-check';
import { type Cadence, cadenceOf, type Outstanding, outstanding } from '../../src/domain/cadence.ts';
import { fieldsOf, reading } from '../../src/domain/cron.ts';
import { Recent } from '../../src/domain/recent.ts';
import type { CadenceSpec } from '../../src/domain/schedule.ts';

const at = (text: string) => new Date(text);
const iso = (dates: readonly Date[]) => dates.map((date) => date.toISOString());

const specOf = (more: Partial<CadenceSpec>): CadenceSpec => ({
  cron: null,
  timezone: 'UTC',
  every_seconds: null,
  starts_at: null,
  ends_at: null,
  ...more,
});
const cronOf = (cron: string, timezone = 'UTC', more: Partial<CadenceSpec> = {}) =>
  cadenceOf(specOf({ cron, timezone, ...more }), 'a');

function walk(cadence: Cadence, after: Date, until: Date, most = Number.POSITIVE_INFINITY): Date[] {
  const slots: Date[] = [];
  for (let slot = cadence.next(after); slot !== null && slot <= until; slot = cadence.next(slot)) {
    const before = slots.at(-1) ?? after;
    assert.ok(slot > before, `${slot.toISOString()} is not after ${before.toISOString()}`);
    slots.push(slot);
    if (slots.length >= most) break;
  }
  return slots;
}

function finish<Value>(work: Generator<undefined, Value>): { value: Value; yields: number } {
  for (let yields = 0; ; yields += 1) {
    const step = work.next();
    if (step.done === true) return { value: step.value, yields };
  }
}

const foldedOf = (cadence: Cadence, after: string, until: string, most: number): Outstanding =>
  finish(outstanding(cadence, at(after), at(until), most)).value;

test('an interval counts from the epoch, or from starts_at to the millisecond', () => {
  const plain = cadenceOf(specOf({ every_seconds: 7 }), 'a');
  assert.equal(plain.next(at('1970-01-01T00:00:07Z'))?.getTime(), 14_000);
  assert.equal(plain.next(new Date(13_999))?.getTime(), 14_000);
  const anchored = cadenceOf(specOf({ every_seconds: 90, starts_at: '2026-01-01T00:00:00.250Z' }), 'a');
  assert.deepEqual(iso(walk(anchored, at('2020-01-01T00:00:00Z'), at('2026-01-01T00:03:01Z'))), [
    '2026-01-01T00:00:00.250Z',
    '2026-01-01T00:01:30.250Z',
    '2026-01-01T00:03:00.250Z',
  ]);
});

test('starts_at and ends_at are slots themselves where they are named', () => {
  const bounds = { starts_at: '2026-01-02T00:00:00Z', ends_at: '2026-01-04T00:00:00Z' };
  const days = ['2026-01-02T00:00:00.000Z', '2026-01-03T00:00:00.000Z', '2026-01-04T00:00:00.000Z'];
  for (const cadence of [
    cronOf('0 0 * * *', 'UTC', bounds),
    cadenceOf(specOf({ every_seconds: 86_400, ...bounds }), 'a'),
  ]) {
    assert.deepEqual(iso(walk(cadence, at('2025-01-01T00:00:00Z'), at('2027-01-01T00:00:00Z'))), days);
    assert.deepEqual(iso(cadence.newest(9, at('2025-01-01T00:00:00Z'), at('2027-01-01T00:00:00Z'))), days);
    assert.equal(finish(cadence.count(at('2025-01-01T00:00:00Z'), at('2027-01-01T00:00:00Z'), 9)).value, 3);
  }
});

test('a moment between two seconds neither skips the coming slot nor repeats the last one', () => {
  const each = cronOf('* * * * * *');
  assert.equal(each.next(at('2026-01-01T11:59:59.001Z'))?.toISOString(), '2026-01-01T12:00:00.000Z');
  assert.equal(each.next(at('2026-01-01T12:00:00.000Z'))?.toISOString(), '2026-01-01T12:00:01.000Z');
  assert.equal(each.next(at('2026-01-01T12:00:00.999Z'))?.toISOString(), '2026-01-01T12:00:01.000Z');
  const noon = at('2026-01-01T12:00:00Z');
  assert.deepEqual(iso(each.newest(1, at('2026-01-01T11:59:59Z'), noon)), [noon.toISOString()]);
  assert.deepEqual(each.newest(1, noon, noon), []);
  assert.deepEqual(iso(each.newest(1, at('2026-01-01T11:59:59Z'), at('2026-01-01T12:00:00.500Z'))), [
    noon.toISOString(),
  ]);
});

test('up to the limit slots are left as they are', () => {
  const found = foldedOf(cronOf('0 * * * *'), '2026-01-01T00:00:00Z', '2026-01-01T03:00:00Z', 3);
  assert.deepEqual(iso(found.slots), [
    '2026-01-01T01:00:00.000Z',
    '2026-01-01T02:00:00.000Z',
    '2026-01-01T03:00:00.000Z',
  ]);
  assert.equal(found.folded, null);
  const none = foldedOf(cronOf('0 * * * *'), '2026-01-01T00:00:00Z', '2026-01-01T00:59:59Z', 3);
  assert.deepEqual(none, { slots: [], folded: null });
});

test('of more, the older ones become a range and a count', () => {
  const { slots, folded } = foldedOf(cronOf('0 * * * *'), '2026-01-01T00:30:00Z', '2026-01-02T00:30:00Z', 2);
  assert.deepEqual(iso(slots), ['2026-01-01T23:00:00.000Z', '2026-01-02T00:00:00.000Z']);
  assert.deepEqual(folded, {
    from: at('2026-01-01T01:00:00Z'),
    through: at('2026-01-01T22:00:00Z'),
    count: 22,
  });
});

test('the count is exact to ten thousand and unknown beyond, in a week of minutes and one of seconds', () => {
  const week = ['2026-03-25T11:22:33.456Z', '2026-04-01T11:22:33.456Z'] as const;
  const minutes = foldedOf(cronOf('* * * * *', 'Europe/Berlin'), ...week, 80);
  assert.equal(minutes.folded?.count, 10_000);
  assert.equal(foldedOf(cronOf('* * * * *', 'Europe/Berlin'), ...week, 79).folded?.count, null);
  const seconds = foldedOf(cronOf('* * * * * *', 'Europe/Berlin'), ...week, 1000);
  assert.equal(seconds.slots.length, 1000);
  assert.equal(seconds.folded?.count, null);
  assert.equal(seconds.folded?.from.toISOString(), '2026-03-25T11:22:34.000Z');
  assert.equal(seconds.folded?.through.getTime(), (seconds.slots[0]?.getTime() ?? 0) - 1000);
});

test('whoever walks a thousand slots can stop on the way', () => {
  const each = cronOf('* * * * * *', 'Europe/Berlin');
  const { yields } = finish(outstanding(each, at('2026-03-25T00:00:00Z'), at('2026-04-01T00:00:00Z'), 1000));
  assert.ok(yields >= 1000 / 32, `${yields}`);
});

const zones = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'Africa/Casablanca',
  'America/Santiago',
  'Asia/Kathmandu',
];
const shapes = [
  '*/7 * * * * *',
  '* * * * *',
  '*/15 * * * *',
  '0,30 * * * *',
  '30 2 * * *',
  '15 2,14 * * *',
  '10,35,40 0-4 * * *',
  '*/20 2 * * *',
  '0 0 * * *',
  '5 0-23/2 * * *',
  '0 0 1,15 * MON',
  'H H * * *',
  '0-59 0,1 1-3 * * *',
];
// Around the clock changes of those zones, where the mistakes are.
const changes = [
  '2026-03-29T01:00:00Z',
  '2026-10-25T01:00:00Z',
  '2026-03-08T07:00:00Z',
  '2026-11-01T06:00:00Z',
  '2026-10-03T15:30:00Z',
  '2026-04-04T15:00:00Z',
  '2026-03-22T02:00:00Z',
  '2026-02-15T02:00:00Z',
  '2026-09-06T04:00:00Z',
  '2026-04-05T03:00:00Z',
];
const moment = fc
  .tuple(fc.constantFrom(...changes), fc.integer({ min: -40 * 3_600_000, max: 20 * 3_600_000 }))
  .map(([change, offset]) => new Date(Date.parse(change) + offset));
const cadences = fc.record({ cron: fc.constantFrom(...shapes), timezone: fc.constantFrom(...zones) });

test('what is remembered is what croner says, in whatever order it is asked', () => {
  fc.assert(
    fc.property(
      cadences,
      fc.array(moment, { minLength: 1, maxLength: 12 }),
      ({ cron, timezone }, moments) => {
        const cadence = cronOf(cron, timezone);
        const fresh = new Cron(fieldsOf(cron, 'a'), { ...reading, timezone, paused: true });
        for (const after of moments) {
          const next = cadence.next(after);
          assert.deepEqual(next, fresh.nextRun(after));
          assert.ok(next !== null && next > after);
          assert.deepEqual(cadence.next(next), fresh.nextRun(next));
        }
      },
    ),
    { numRuns: 150 },
  );
});

test('slots end with the years that can be written down, whatever the end that is asked for', () => {
  const daily = cadenceOf(specOf({ every_seconds: 86_400, ends_at: '9999-12-31T23:59:59Z' }), 'a');
  const found = walk(daily, at('9999-12-27T12:00:00Z'), new Date(8.64e15));
  assert.deepEqual(
    iso(found).map((text) => text.slice(0, 10)),
    ['9999-12-28', '9999-12-29', '9999-12-30'],
  );
});

test('going back and counting find what walking finds', () => {
  const span = fc.integer({ min: 0, max: 36 * 3_600_000 });
  fc.assert(
    fc.property(
      cadences,
      moment,
      span,
      fc.integer({ min: 1, max: 40 }),
      ({ cron, timezone }, after, ms, count) => {
        const cadence = cronOf(cron, timezone);
        const until = new Date(after.getTime() + (cron.startsWith('*/7') ? ms / 20 : ms));
        const walked = walk(cadence, after, until);
        assert.deepEqual(iso(cadence.newest(count, after, until)), iso(walked.slice(-count)));
        assert.equal(finish(cadence.count(after, until, 100_000)).value, walked.length);
        const { slots, folded } = finish(outstanding(cadence, after, until, count)).value;
        assert.deepEqual(iso(slots), iso(walked.slice(-count)));
        assert.equal(folded?.count ?? 0, Math.max(0, walked.length - count));
        if (folded !== null) {
          assert.deepEqual(folded.from, walked[0]);
          assert.deepEqual(folded.through, walked[walked.length - count - 1]);
        }
      },
    ),
    { numRuns: 120 },
  );
});

test('counting by whole days finds what walking finds over months with clock changes', () => {
  for (const timezone of ['Europe/Berlin', 'Australia/Lord_Howe', 'Africa/Casablanca']) {
    for (const cron of ['30 */3 * * *', '0,30 1-3 * * *', '15 2,14 * * 1-5']) {
      const cadence = cronOf(cron, timezone);
      const [after, until] = [at('2026-02-01T05:06:07Z'), at('2026-05-01T05:06:07Z')];
      assert.equal(
        finish(cadence.count(after, until, 10_000)).value,
        walk(cadence, after, until).length,
        `${cron} in ${timezone}`,
      );
    }
  }
});

const likewise = [
  '0 12 * * *',
  '30 4 * * 1-5',
  '15 10 15 * *',
  '0 6 L * *',
  '0 6 * * 5L',
  '20 5 * * 2#1',
  '0 9 1,15 * 1',
  '45 23 31 * *',
  '0 8 29 2 *',
  '5 7,19 * 3,9 *',
  '30 15 4 12 * 6',
  '0 20 */5 * *',
];

test('another cron library finds the same slots all year, away from the hours of clock changes', () => {
  const [after, until] = [at('2025-12-31T23:59:59Z'), at('2026-12-31T00:00:00Z')];
  for (const timezone of ['UTC', 'Asia/Kathmandu', 'America/Phoenix', 'Europe/Berlin']) {
    for (const cron of likewise) {
      const other = CronExpressionParser.parse(cron, { tz: timezone, currentDate: after });
      const mine = walk(cronOf(cron, timezone), after, until);
      const theirs = mine.map(() => other.next().toDate());
      assert.deepEqual(iso(mine), iso(theirs), `${cron} in ${timezone}`);
      assert.ok(other.next().toDate() > until, `${cron} in ${timezone} has more`);
    }
  }
});

test('another cron library finds the same dense slots for some hours', () => {
  const [after, until] = [at('2026-06-30T23:59:30Z'), at('2026-07-01T03:00:00Z')];
  for (const timezone of ['UTC', 'Asia/Kathmandu', 'Australia/Lord_Howe']) {
    for (const cron of ['*/5 * * * *', '7-59/13 * * * *', '0,30 10 * * * *', '*/45 * * * *']) {
      const other = CronExpressionParser.parse(cron, { tz: timezone, currentDate: after });
      const mine = walk(cronOf(cron, timezone), after, until);
      assert.deepEqual(iso(mine), iso(mine.map(() => other.next().toDate())), `${cron} in ${timezone}`);
    }
  }
});

test('a bounded memory forgets what was not asked for longest', () => {
  const made: string[] = [];
  const recent = new Recent(2, (key) => made.push(key));
  for (const key of ['a', 'b', 'a', 'c', 'a', 'b']) recent.of(key);
  assert.deepEqual(made, ['a', 'b', 'c', 'b']);
});
