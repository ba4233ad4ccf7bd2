// Proves that a cron is read as docs/cron.md says, that `H` spreads, and that what cannot be is refused by field and value.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cadenceOf } from '../../src/domain/cadence.ts';
import { CadenceFault, type CadenceMember } from '../../src/domain/cadence-fault.ts';
import { fieldsOf } from '../../src/domain/cron.ts';
import type { CadenceSpec } from '../../src/domain/schedule.ts';

const specOf = (cron: string, more: Partial<CadenceSpec> = {}): CadenceSpec => ({
  cron,
  timezone: 'UTC',
  every_seconds: null,
  starts_at: null,
  ends_at: null,
  ...more,
});

function slotsOf(cron: string, count: number, from = '2026-01-01T00:00:00Z'): string[] {
  const cadence = cadenceOf(specOf(cron), 'a');
  const slots: string[] = [];
  for (let at = cadence.next(new Date(from)); at !== null && slots.length < count; at = cadence.next(at)) {
    slots.push(at.toISOString().replace(':00.000Z', '').replace('.000Z', ''));
  }
  return slots;
}

function faultOf(spec: CadenceSpec): { member: CadenceMember; detail: string } {
  try {
    cadenceOf(spec, 'a');
  } catch (error) {
    assert.ok(error instanceof CadenceFault, String(error));
    return { member: error.member, detail: error.detail };
  }
  return assert.fail(`${JSON.stringify(spec)} was accepted`);
}

const readings: readonly (readonly [string, readonly string[]])[] = [
  ['*/20 * * * *', ['2026-01-01T00:20', '2026-01-01T00:40', '2026-01-01T01:00']],
  ['*/20 * * * * *', ['2026-01-01T00:00:20', '2026-01-01T00:00:40', '2026-01-01T00:01']],
  ['30 9 * JAN MON-WED', ['2026-01-05T09:30', '2026-01-06T09:30', '2026-01-07T09:30']],
  ['0 0 * * 7', ['2026-01-04T00:00', '2026-01-11T00:00']],
  ['0 0 ? * sun', ['2026-01-04T00:00', '2026-01-11T00:00']],
  ['0 0 L * *', ['2026-01-31T00:00', '2026-02-28T00:00']],
  ['0 0 LW * *', ['2026-01-30T00:00', '2026-02-27T00:00']],
  ['0 0 15W * *', ['2026-01-15T00:00', '2026-02-16T00:00']],
  ['0 0 * * FRIL', ['2026-01-30T00:00', '2026-02-27T00:00']],
  ['0 0 * * FRI#2', ['2026-01-09T00:00', '2026-02-13T00:00']],
  ['0 0 29 2 *', ['2028-02-29T00:00', '2032-02-29T00:00']],
  ['@hourly', ['2026-01-01T01:00', '2026-01-01T02:00']],
  ['@daily', ['2026-01-02T00:00', '2026-01-03T00:00']],
  ['@midnight', ['2026-01-02T00:00', '2026-01-03T00:00']],
  ['@weekly', ['2026-01-04T00:00', '2026-01-11T00:00']],
  ['@monthly', ['2026-02-01T00:00', '2026-03-01T00:00']],
  ['@Yearly', ['2027-01-01T00:00', '2028-01-01T00:00']],
  ['@annually', ['2027-01-01T00:00', '2028-01-01T00:00']],
];

for (const [cron, expected] of readings) {
  test(`${cron} is read as documented`, () => assert.deepEqual(slotsOf(cron, expected.length), expected));
}

test('a day of month and a day of week mean either of them, and both with a plus', () => {
  assert.deepEqual(slotsOf('0 0 13 * FRI', 3), ['2026-01-02T00:00', '2026-01-09T00:00', '2026-01-13T00:00']);
  assert.deepEqual(slotsOf('0 0 13 * +FRI', 2), ['2026-02-13T00:00', '2026-03-13T00:00']);
});

test('a slot is found that is the next one only after decades', () => {
  assert.deepEqual(slotsOf('0 0 29 2 +MON', 2), ['2044-02-29T00:00', '2072-02-29T00:00']);
});

const names = Array.from({ length: 1000 }, (_, at) => `schedule-${at}`);

function spreadOver(cron: string, field: number): Map<number, number> {
  const counts = new Map<number, number>();
  for (const name of names) {
    const value = Number(fieldsOf(cron, name).split(' ')[field]);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return counts;
}

test('a thousand names spread over the minutes of H, none of which gets twice its share and more', () => {
  const counts = spreadOver('H 3 * * *', 1);
  assert.equal(counts.size, 60);
  assert.ok(Math.max(...counts.values()) <= 35, String([...counts.values()]));
});

test('H of each field stays where every month and week has a value', () => {
  const bounds = [
    [0, 59],
    [0, 59],
    [0, 23],
    [1, 28],
    [1, 12],
    [0, 6],
  ] as const;
  bounds.forEach(([first, last], field) => {
    const values = [...spreadOver('H H H H H H', field).keys()];
    assert.deepEqual([Math.min(...values), Math.max(...values)], [first, last]);
    assert.equal(values.length, last - first + 1);
  });
});

test('H is decided by the name and the field, not by chance', () => {
  assert.equal(fieldsOf('H H * * *', 'nightly'), fieldsOf('H H * * *', 'nightly'));
  const same = names.filter((name) => {
    const [, minute, hour] = fieldsOf('H(0-5) H(0-5) * * *', name).split(' ');
    return minute === hour;
  });
  // One in six by chance; all of them if the fields were tied to each other.
  assert.ok(same.length > 100 && same.length < 250, `${same.length}`);
});

test('H takes a range, a step, and a place in a list', () => {
  for (const name of names) {
    const [second, minute, hour, day] = fieldsOf('H(10-20) H/15 H(0-7)/4,H(20-22) H(29-31) * *', name).split(
      ' ',
    );
    assert.ok(Number(second) >= 10 && Number(second) <= 20);
    assert.match(minute ?? '', /^([0-9]|1[0-4])-59\/15$/);
    assert.match(hour ?? '', /^[0-3]-7\/4,2[0-2]$/);
    assert.match(day ?? '', /^(29|30|31)$/);
  }
});

test('words and names that contain an H are left alone', () => {
  assert.equal(fieldsOf('@daily', 'a'), '0 0 0 * * *');
  assert.equal(fieldsOf('0 0 * MAR THU', 'a'), '0 0 0 * MAR THU');
});

const refused: readonly (readonly [string, RegExp])[] = [
  ['60 * * * * *', /^second of the cron is "60"; use \*, 0 to 59/],
  ['61 * * * *', /^minute of the cron is "61"; use \*, 0 to 59/],
  ['5/5 * * * *', /^minute of the cron is "5\/5"/],
  ['*/0 * * * *', /^minute of the cron is "\*\/0"/],
  ['50-10 * * * *', /^minute of the cron is "50-10"/],
  ['1,,2 * * * *', /^minute of the cron is "1,,2"/],
  ['-1 * * * *', /^minute of the cron is "-1"/],
  ['1e1 * * * *', /^minute of the cron is "1e1"/],
  ['L * * * *', /^minute of the cron is "L"/],
  ['0 24 * * *', /^hour of the cron is "24"; use \*, 0 to 23/],
  ['0 0 32 * *', /^day of month of the cron is "32"; use \*, 1 to 31/],
  ['0 0 0 * *', /^day of month of the cron is "0"/],
  ['0 0 L-3 * *', /^day of month of the cron is "L-3"/],
  ['0 0 * 13 *', /^month of the cron is "13"; use \*, 1 to 12, JAN to DEC/],
  ['0 0 * FOO *', /^month of the cron is "FOO"/],
  ['0 0 * * 8', /^day of week of the cron is "8"; use \*, 0 to 7, SUN to SAT/],
  ['0 0 * * FRI#6', /^day of week of the cron is "FRI#6"/],
  ['0 0 * * L', /^day of week of the cron is "L"/],
  ['0 ５ * * *', /^hour of the cron is "５"/],
  ['H(5-70) * * * *', /^minute of the cron is "H\(5-70\)"; use H, H\(a-b\) within 0-59/],
  ['0 H(7-5) * * *', /^hour of the cron is "H\(7-5\)"; use H, H\(a-b\) within 0-23/],
  ['0 0 H(0-3) * *', /^day of month of the cron is "H\(0-3\)"; use H, H\(a-b\) within 1-31/],
  ['H/0 * * * *', /^minute of the cron is "H\/0"/],
  ['H(0-3)/5 * * * *', /^minute of the cron is "H\(0-3\)\/5"/],
  ['H5 * * * *', /^minute of the cron is "H5"/],
  ['', /^cron "" has 0 fields; use 5/],
  ['* * *', /^cron "\* \* \*" has 3 fields; use 5/],
  ['0\n0 * * *', /has 4 fields/],
  ['0 0 0 1 1 * 2026', /has 7 fields; leave out the year and use starts_at and ends_at/],
  ['2026-01-01T00:00:00', /has 1 fields/],
  ['@reboot', /^cron "@reboot" is no word that is known; use @hourly, @daily/],
  ['@daily *', /is no word that is known/],
  ['@every 5m', /use every_seconds/],
  [`${'1,'.repeat(200)}1 * * * *`, /^cron has 409 characters, use at most 256$/],
  ['0 0 30 2 *', /^cron "0 0 30 2 \*" never fires/],
  ['0 0 31 4,6,9,11 *', /never fires/],
  ['0 0 31W 2 *', /never fires/],
  ['0 0 30 2 +MON', /never fires/],
];

for (const [cron, detail] of refused) {
  test(`${cron.slice(0, 30)} is refused with field, value and remedy`, () => {
    const fault = faultOf(specOf(cron));
    assert.equal(fault.member, 'cron');
    assert.match(fault.detail, detail);
  });
}

test('a long field is cut in what is said of it', () => {
  const { detail } = faultOf(specOf(`${'1,'.repeat(100)}99 * * * *`));
  assert.ok(detail.length < 200, detail);
});

const zones: readonly (readonly [string, RegExp])[] = [
  [
    'Europe/Berln',
    /^timezone "Europe\/Berln" is not known; use an IANA name; did you mean Europe\/Berlin\?$/,
  ],
  ['Berlin', /did you mean Europe\/Berlin\?$/],
  ['America/New York', /did you mean America\/New_York\?$/],
  ['CEST', /use an IANA name such as Europe\/Berlin or UTC$/],
  ['+02:00', /such as/],
  ['', /such as/],
  ['x'.repeat(10_000), /^timezone "x{40}…" is not known/],
];

for (const [timezone, detail] of zones) {
  test(`the time zone "${timezone.slice(0, 20)}" is refused with a hint`, () => {
    const fault = faultOf(specOf('0 0 * * *', { timezone }));
    assert.equal(fault.member, 'timezone');
    assert.match(fault.detail, detail);
  });
}

test('what contradicts itself is refused where it does', () => {
  const bounds = { starts_at: '2026-01-01T01:00:00Z', ends_at: '2026-01-01T12:00:00Z' };
  assert.equal(faultOf(specOf('0 0 * * *', bounds)).member, 'ends_at');
  assert.equal(faultOf(specOf('0 0 * * *', { ends_at: 'tomorrow' })).member, 'ends_at');
  assert.equal(faultOf(specOf('0 0 * * *', { starts_at: '' })).member, 'starts_at');
  const reversed = {
    ...specOf(''),
    cron: null,
    every_seconds: 60,
    starts_at: bounds.ends_at,
    ends_at: bounds.starts_at,
  };
  assert.equal(faultOf(reversed).member, 'ends_at');
  assert.equal(faultOf({ ...specOf('0 0 * * *'), every_seconds: 60 }).member, 'every_seconds');
  assert.equal(faultOf({ ...specOf(''), cron: null }).member, 'cron');
  for (const every_seconds of [0, -1, 1.5, Number.NaN, 366 * 86_400 + 1]) {
    assert.equal(faultOf({ ...specOf(''), cron: null, every_seconds }).member, 'every_seconds');
  }
});

test('a definition whose time is over is no fault, so that it can be applied again', () => {
  const cadence = cadenceOf(specOf('0 0 * * *', { ends_at: '2020-01-01T00:00:00Z' }), 'a');
  assert.equal(cadence.next(new Date('2026-01-01T00:00:00Z')), null);
});
