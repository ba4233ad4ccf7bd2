// Proves what a clock change does to slots: by hand-written days, by an oracle that looks at every minute of a day with
// the clock of Intl and knows nothing of croner, and by the table of docs/cron.md, which must be what the code does.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { cadenceOf } from '../../src/domain/cadence.ts';
import { forecastOf } from '../../src/domain/forecast.ts';

const hour = 3_600_000;

function slotsOn(cron: string, timezone: string, from: Date, until: Date): Date[] {
  const spec = { cron, timezone, every_seconds: null, starts_at: null, ends_at: null };
  const cadence = cadenceOf(spec, 'a');
  const slots: Date[] = [];
  let slot = cadence.next(new Date(from.getTime() - 1));
  while (slot !== null && slot < until) {
    slots.push(slot);
    slot = cadence.next(slot);
  }
  return slots;
}

interface Day {
  readonly timezone: string;
  /** The local day, from midnight to midnight. */
  readonly from: string;
  readonly until: string;
  /** For each cron the slots, or how many there are in even steps of so many minutes. */
  readonly slots: Readonly<Record<string, readonly string[] | { count: number; every: number }>>;
}

const days: readonly Day[] = [
  {
    timezone: 'Europe/Berlin',
    from: '2026-03-29T00:00+01:00',
    until: '2026-03-30T00:00+02:00',
    slots: {
      '30 2 * * *': ['2026-03-29T03:00+02:00'],
      '30 1 * * *': ['2026-03-29T01:30+01:00'],
      '15 2 * * *': ['2026-03-29T03:00+02:00'],
      '0 0 * * *': ['2026-03-29T00:00+01:00'],
      '*/20 2 * * *': [],
      '0,20,40 2 * * *': ['2026-03-29T03:00+02:00'],
      '0 * * * *': { count: 23, every: 60 },
      '*/15 * * * *': { count: 92, every: 15 },
    },
  },
  {
    timezone: 'Europe/Berlin',
    from: '2026-10-25T00:00+02:00',
    until: '2026-10-26T00:00+01:00',
    slots: {
      '30 2 * * *': ['2026-10-25T02:30+02:00'],
      '30 1 * * *': ['2026-10-25T01:30+02:00'],
      '15 2 * * *': ['2026-10-25T02:15+02:00'],
      '0 0 * * *': ['2026-10-25T00:00+02:00'],
      '*/20 2 * * *': [
        '2026-10-25T02:00+02:00',
        '2026-10-25T02:20+02:00',
        '2026-10-25T02:40+02:00',
        '2026-10-25T02:00+01:00',
        '2026-10-25T02:20+01:00',
        '2026-10-25T02:40+01:00',
      ],
      '0,30 2 * * *': ['2026-10-25T02:00+02:00', '2026-10-25T02:30+02:00'],
      '0 * * * *': { count: 25, every: 60 },
      '*/15 * * * *': { count: 100, every: 15 },
    },
  },
  {
    timezone: 'America/New_York',
    from: '2026-03-08T00:00-05:00',
    until: '2026-03-09T00:00-04:00',
    slots: {
      '30 2 * * *': ['2026-03-08T03:00-04:00'],
      '30 1 * * *': ['2026-03-08T01:30-05:00'],
      '15 2 * * *': ['2026-03-08T03:00-04:00'],
      '0 0 * * *': ['2026-03-08T00:00-05:00'],
      '*/20 2 * * *': [],
      '0 * * * *': { count: 23, every: 60 },
      '*/15 * * * *': { count: 92, every: 15 },
    },
  },
  {
    timezone: 'America/New_York',
    from: '2026-11-01T00:00-04:00',
    until: '2026-11-02T00:00-05:00',
    slots: {
      '30 2 * * *': ['2026-11-01T02:30-05:00'],
      '30 1 * * *': ['2026-11-01T01:30-04:00'],
      '15 2 * * *': ['2026-11-01T02:15-05:00'],
      '0 0 * * *': ['2026-11-01T00:00-04:00'],
      '*/20 2 * * *': ['2026-11-01T02:00-05:00', '2026-11-01T02:20-05:00', '2026-11-01T02:40-05:00'],
      '0 * * * *': { count: 25, every: 60 },
      '*/15 * * * *': { count: 100, every: 15 },
    },
  },
  {
    timezone: 'Australia/Lord_Howe',
    from: '2026-10-04T00:00+10:30',
    until: '2026-10-05T00:00+11:00',
    slots: {
      '30 2 * * *': ['2026-10-04T02:30+11:00'],
      '30 1 * * *': ['2026-10-04T01:30+10:30'],
      '15 2 * * *': ['2026-10-04T02:30+11:00'],
      '0 0 * * *': ['2026-10-04T00:00+10:30'],
      '*/20 2 * * *': ['2026-10-04T02:40+11:00'],
      '*/15 * * * *': { count: 94, every: 15 },
    },
  },
  {
    timezone: 'Australia/Lord_Howe',
    from: '2026-04-05T00:00+11:00',
    until: '2026-04-06T00:00+10:30',
    slots: {
      '30 2 * * *': ['2026-04-05T02:30+10:30'],
      '30 1 * * *': ['2026-04-05T01:30+11:00'],
      '15 2 * * *': ['2026-04-05T02:15+10:30'],
      '0 0 * * *': ['2026-04-05T00:00+11:00'],
      '*/20 2 * * *': ['2026-04-05T02:00+10:30', '2026-04-05T02:20+10:30', '2026-04-05T02:40+10:30'],
      '*/15 * * * *': { count: 98, every: 15 },
    },
  },
  {
    timezone: 'Africa/Casablanca',
    from: '2026-03-22T00:00+00:00',
    until: '2026-03-23T00:00+01:00',
    slots: {
      '30 2 * * *': ['2026-03-22T03:00+01:00'],
      '30 1 * * *': ['2026-03-22T01:30+00:00'],
      '15 2 * * *': ['2026-03-22T03:00+01:00'],
      '0 0 * * *': ['2026-03-22T00:00+00:00'],
      '*/20 2 * * *': [],
      '0 * * * *': { count: 23, every: 60 },
      '*/15 * * * *': { count: 92, every: 15 },
    },
  },
  {
    timezone: 'Africa/Casablanca',
    from: '2026-02-15T00:00+01:00',
    until: '2026-02-16T00:00+00:00',
    slots: {
      '30 2 * * *': ['2026-02-15T02:30+01:00'],
      '30 1 * * *': ['2026-02-15T01:30+01:00'],
      '15 2 * * *': ['2026-02-15T02:15+01:00'],
      '0 0 * * *': ['2026-02-15T00:00+01:00'],
      '0 * * * *': { count: 25, every: 60 },
      '*/15 * * * *': { count: 100, every: 15 },
    },
  },
];

for (const { timezone, from, until, slots } of days) {
  for (const [cron, expected] of Object.entries(slots)) {
    test(`${cron} in ${timezone} on ${from.slice(0, 10)}`, () => {
      const found = slotsOn(cron, timezone, new Date(from), new Date(until));
      if (!('count' in expected)) {
        assert.deepEqual(
          found,
          expected.map((text) => new Date(text)),
        );
        return;
      }
      assert.equal(found.length, expected.count);
      found.forEach((slot, n) => {
        assert.equal(slot.getTime(), (found[0]?.getTime() ?? 0) + n * expected.every * 60_000);
      });
    });
  }
}

// What a cron means, for the oracle: said again, not read from the text.
const meanings: readonly { cron: string; timesOfDay: boolean; named(h: number, m: number): boolean }[] = [
  { cron: '30 2 * * *', timesOfDay: true, named: (h, m) => h === 2 && m === 30 },
  { cron: '30 1 * * *', timesOfDay: true, named: (h, m) => h === 1 && m === 30 },
  { cron: '15 2 * * *', timesOfDay: true, named: (h, m) => h === 2 && m === 15 },
  { cron: '0 0 * * *', timesOfDay: true, named: (h, m) => h === 0 && m === 0 },
  { cron: '30 23 * * *', timesOfDay: true, named: (h, m) => h === 23 && m === 30 },
  { cron: '10,35,40 0-3 * * *', timesOfDay: true, named: (h, m) => h <= 3 && [10, 35, 40].includes(m) },
  { cron: '30 2,14 * * *', timesOfDay: true, named: (h, m) => (h === 2 || h === 14) && m === 30 },
  { cron: '0 0-23 * * *', timesOfDay: true, named: (_, m) => m === 0 },
  { cron: '*/20 2 * * *', timesOfDay: false, named: (h, m) => h === 2 && m % 20 === 0 },
  { cron: '0 * * * *', timesOfDay: false, named: (_, m) => m === 0 },
  { cron: '*/15 * * * *', timesOfDay: false, named: (_, m) => m % 15 === 0 },
  { cron: '0 */2 * * *', timesOfDay: false, named: (h, m) => m === 0 && h % 2 === 0 },
];

/** Looks at every minute of real time with a clock on the wall, and remembers which times the clock has shown. */
function watched(
  timezone: string,
  meaning: (typeof meanings)[number],
  from: number,
  until: number,
): string[] {
  const clock = new Intl.DateTimeFormat('sv-SE', {
    timeZone: timezone,
    dateStyle: 'short',
    timeStyle: 'short',
  });
  const wallAt = (moment: number) => Date.parse(`${clock.format(moment).replace(' ', 'T')}:00Z`);
  const named = (wall: number) => meaning.named(new Date(wall).getUTCHours(), new Date(wall).getUTCMinutes());
  const seen = new Set<number>();
  const found: string[] = [];
  let before = wallAt(from - 26 * hour - 60_000);
  for (let moment = from - 26 * hour; moment < until; moment += 60_000) {
    const wall = wallAt(moment);
    let fires = named(wall) && !(meaning.timesOfDay && seen.has(wall));
    if (meaning.timesOfDay) {
      for (let missing = before + 60_000; missing < wall; missing += 60_000) {
        const sameDay = Math.floor(missing / (24 * hour)) === Math.floor(wall / (24 * hour));
        if (sameDay && named(missing) && !seen.has(missing)) fires = true;
      }
    }
    seen.add(wall);
    before = wall;
    if (fires && moment >= from) found.push(new Date(moment).toISOString());
  }
  return found;
}

const spans: readonly (readonly [string, string])[] = [
  ['Europe/Berlin', '2026-03-28T12:00:00Z'],
  ['Europe/Berlin', '2026-10-24T12:00:00Z'],
  ['America/New_York', '2026-03-07T12:00:00Z'],
  ['America/New_York', '2026-10-31T12:00:00Z'],
  ['Australia/Lord_Howe', '2026-10-03T00:00:00Z'],
  ['Australia/Lord_Howe', '2026-04-04T00:00:00Z'],
  ['Africa/Casablanca', '2026-03-21T12:00:00Z'],
  ['Africa/Casablanca', '2026-02-14T12:00:00Z'],
  // Clocks that change at midnight, a day that was left out, a zone that never changes, one that is named by nobody.
  ['America/Santiago', '2026-09-05T12:00:00Z'],
  ['America/Santiago', '2026-04-04T12:00:00Z'],
  ['Africa/Cairo', '2026-04-23T12:00:00Z'],
  ['Pacific/Apia', '2011-12-29T12:00:00Z'],
  ['Asia/Kathmandu', '2026-03-28T12:00:00Z'],
  ['UTC', '2026-03-28T12:00:00Z'],
];

for (const [timezone, start] of spans) {
  test(`slots in ${timezone} from ${start.slice(0, 10)} are what a clock on the wall shows, minute by minute`, () => {
    const from = Date.parse(start);
    const until = from + 60 * hour;
    for (const meaning of meanings) {
      const found = slotsOn(meaning.cron, timezone, new Date(from), new Date(until));
      assert.deepEqual(
        found.map((slot) => slot.toISOString()),
        watched(timezone, meaning, from, until),
        meaning.cron,
      );
    }
  });
}

const shownCrons = [
  '30 1 * * *',
  '15 2 * * *',
  '30 2 * * *',
  '0,20,40 2 * * *',
  '*/20 2 * * *',
  '0 * * * *',
  '*/15 * * * *',
  '0 0 * * *',
];

function tableOfBerlin(): string[] {
  const around = [
    ['29 March', '2026-03-29T00:00+01:00', '2026-03-30T00:00+02:00'],
    ['25 October', '2026-10-25T00:00+02:00', '2026-10-26T00:00+01:00'],
  ] as const;
  return shownCrons.flatMap((cron) =>
    around.map(([name, from, until]) => {
      const spec = { cron, timezone: 'Europe/Berlin', every_seconds: null, starts_at: null, ends_at: null };
      const schedule = {
        cadence: cadenceOf(spec, 'a'),
        timezone: 'Europe/Berlin',
        jitter_seconds: 0,
        name: 'a',
      };
      const forecast = forecastOf(schedule, 101, new Date(Date.parse(from) - 1));
      const slots = forecast.slots.filter(({ slot }) => slot < new Date(until));
      const near = slots
        .filter(({ local }) => local.slice(11) >= '02:00:00' && local.slice(11) <= '03:00:00')
        .map(({ local, utc_offset }) => local.slice(11, 16) + utc_offset);
      return `| \`${cron}\` | ${name} | ${slots.length} | ${near.length === 0 ? 'none' : near.join(', ')} |`;
    }),
  );
}

test('the table of docs/cron.md is what the code does', () => {
  const page = readFileSync(new URL('../../docs/cron.md', import.meta.url), 'utf8');
  const table = /<!-- clock-changes[\s\S]*?\|---\|---\|---\|---\|\n([\s\S]*?)<!-- end -->/.exec(page)?.[1];
  assert.equal(table?.trimEnd(), tableOfBerlin().join('\n'));
});
