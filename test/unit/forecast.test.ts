// Proves that a forecast shows slots as people will see them: local time, offset, what a clock change did, and when.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cadenceOf } from '../../src/domain/cadence.ts';
import { type Forecast, forecastOf } from '../../src/domain/forecast.ts';
import { dueOf } from '../../src/domain/jitter.ts';
import type { CadenceSpec } from '../../src/domain/schedule.ts';

function forecast(
  timezone: string,
  cron: string,
  count: number,
  after: string,
  more: Partial<CadenceSpec> = {},
): Forecast {
  const spec = { cron, timezone, every_seconds: null, starts_at: null, ends_at: null, ...more };
  return forecastOf(
    { cadence: cadenceOf(spec, 'a'), timezone, jitter_seconds: 0, name: 'a' },
    count,
    new Date(after),
  );
}

const lines = ({ slots }: Forecast) =>
  slots.map(({ local, utc_offset, note }) => [local, utc_offset, note ?? ''].join(' ').trim());

test('a slot after a gap says so, and the change is listed', () => {
  const shown = forecast('Europe/Berlin', '30 2 * * *', 3, '2026-03-28T00:00:00Z');
  assert.deepEqual(lines(shown), [
    '2026-03-28T02:30:00 +01:00',
    '2026-03-29T03:00:00 +02:00 gap',
    '2026-03-30T02:30:00 +02:00',
  ]);
  assert.deepEqual(shown.clock_changes, [
    { at: new Date('2026-03-29T01:00:00Z'), from_offset: '+01:00', to_offset: '+02:00' },
  ]);
});

test('a local time that comes twice says which one it is', () => {
  assert.deepEqual(lines(forecast('America/New_York', '0 * * * *', 4, '2026-11-01T04:30:00Z')), [
    '2026-11-01T01:00:00 -04:00 repeat_first',
    '2026-11-01T01:00:00 -05:00 repeat_second',
    '2026-11-01T02:00:00 -05:00',
    '2026-11-01T03:00:00 -05:00',
  ]);
  assert.deepEqual(lines(forecast('America/New_York', '30 1 * * *', 1, '2026-11-01T04:30:00Z')), [
    '2026-11-01T01:30:00 -04:00 repeat_first',
  ]);
});

test('a change of half an hour is told as one', () => {
  assert.deepEqual(lines(forecast('Australia/Lord_Howe', '15 2 * * *', 2, '2026-10-03T12:00:00Z')), [
    '2026-10-04T02:30:00 +11:00 gap',
    '2026-10-05T02:15:00 +11:00',
  ]);
  assert.deepEqual(lines(forecast('Australia/Lord_Howe', '*/30 * * * *', 5, '2026-04-04T14:00:00Z')), [
    '2026-04-05T01:30:00 +11:00 repeat_first',
    '2026-04-05T01:30:00 +10:30 repeat_second',
    '2026-04-05T02:00:00 +10:30',
    '2026-04-05T02:30:00 +10:30',
    '2026-04-05T03:00:00 +10:30',
  ]);
});

test('Ramadan in Morocco has two changes a month apart', () => {
  const { clock_changes } = forecast('Africa/Casablanca', '0 12 * * *', 60, '2026-02-01T00:00:00Z');
  assert.deepEqual(clock_changes, [
    { at: new Date('2026-02-15T02:00:00Z'), from_offset: '+01:00', to_offset: '+00:00' },
    { at: new Date('2026-03-22T02:00:00Z'), from_offset: '+00:00', to_offset: '+01:00' },
  ]);
});

test('a day that a zone left out has no slot, and the change of a whole day is shown', () => {
  const shown = forecast('Pacific/Apia', '0 12 * * *', 3, '2011-12-28T12:00:00Z');
  assert.deepEqual(lines(shown), [
    '2011-12-28T12:00:00 -10:00',
    '2011-12-29T12:00:00 -10:00',
    '2011-12-31T12:00:00 +14:00',
  ]);
  assert.deepEqual(shown.clock_changes, [
    { at: new Date('2011-12-30T10:00:00Z'), from_offset: '-10:00', to_offset: '+14:00' },
  ]);
});

test('a zone that never changes its clocks shows its odd offset and nothing else', () => {
  const shown = forecast('Asia/Kathmandu', '0 0 * * *', 400, '2026-01-01T00:00:00Z');
  assert.ok(shown.slots.every(({ utc_offset, note }) => utc_offset === '+05:45' && note === null));
  assert.equal(shown.slots[0]?.slot.toISOString(), '2026-01-01T18:15:00.000Z');
  assert.deepEqual(shown.clock_changes, []);
});

test('seconds and milliseconds appear where a slot has them', () => {
  const anchored = { every_seconds: 90, starts_at: '2026-01-01T00:00:00.250Z', cron: null };
  assert.deepEqual(lines(forecast('UTC', '', 2, '2026-01-01T00:00:00Z', anchored)), [
    '2026-01-01T00:00:00.250 +00:00',
    '2026-01-01T00:01:30.250 +00:00',
  ]);
});

test('a forecast ends where the schedule does', () => {
  const shown = forecast('UTC', '0 0 * * *', 10, '2026-01-01T12:00:00Z', { ends_at: '2026-01-03T00:00:00Z' });
  assert.deepEqual(lines(shown), ['2026-01-02T00:00:00 +00:00', '2026-01-03T00:00:00 +00:00']);
  const over = forecast('UTC', '0 0 * * *', 10, '2027-01-01T12:00:00Z', { ends_at: '2026-01-03T00:00:00Z' });
  assert.deepEqual(over, { slots: [], is_last: true, clock_changes: [] });
});

test('each slot says when it is due', () => {
  const spec = { cron: '0 2 * * *', timezone: 'UTC', every_seconds: null, starts_at: null, ends_at: null };
  const schedule = { cadence: cadenceOf(spec, 'a'), timezone: 'UTC', jitter_seconds: 600, name: 'a' };
  const { slots } = forecastOf(schedule, 5, new Date('2026-01-01T00:00:00Z'));
  assert.equal(slots.length, 5);
  for (const { slot, due_at } of slots) assert.deepEqual(due_at, dueOf(slot, 600, 'a'));
});

test('the changes of a forecast over centuries are those of ten years', () => {
  const { slots, clock_changes } = forecast('Europe/Berlin', '0 0 29 2 +MON', 30, '2026-01-01T00:00:00Z');
  assert.equal(slots.length, 30);
  assert.equal(clock_changes.length, 20);
});

test('a forecast ends with the years that can be written, for a cron as for an interval', () => {
  for (const more of [{}, { cron: null, every_seconds: 3_600 }]) {
    const shown = forecast('Pacific/Kiritimati', '0 * * * *', 100, '9999-12-29T00:00:00Z', more);
    assert.equal(shown.is_last, true);
    assert.ok(shown.slots.every(({ slot }) => slot.getUTCFullYear() === 9999));
    const beyond = forecast('UTC', '0 * * * *', 10, '9999-12-31T23:59:59Z', more);
    assert.deepEqual(beyond, { slots: [], is_last: true, clock_changes: [] });
  }
  assert.equal(forecast('UTC', '0 * * * *', 10, '2026-01-01T00:00:00Z').is_last, false);
});
