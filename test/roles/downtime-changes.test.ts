// Schedules that begin, end, are paused or changed while nobody fires: the API is up, the clock goes on, and whoever leads
// afterwards finds what was due under which definition. Worked out by hand; signs: `account` of test/support/movable.ts.
// Next room: downtime.test.ts, the policies.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from '../../src/store/sql.ts';
import { calling } from '../support/call.ts';
import type { TestErrand } from '../support/errand.ts';
import { account, type Movable, mismatches, movable, moveTo } from '../support/movable.ts';
import { ledgerOf } from '../support/schedules.ts';

const at = (time: string) => new Date(`2026-06-01T${time}Z`);
const job = { type: 'scheduled' };
const minutely = { cron: '* * * * *', job };

/** The first moment of each of these minutes. */
const minutes = (...all: string[]) => all.map((minute) => at(`${minute}:00`));
const upTo12 = ['11:55', '11:56', '11:57', '11:58', '11:59', '12:00'];
const after12 = ['12:01', '12:02', '12:03', '12:04', '12:05'];
const each = minutes(...upTo12, ...after12);

/** Defined before the outage, which lasts from 11:55:00 to 12:05:00: the slots, and what becomes of them. */
const schedules: Record<string, { definition: object; slots: readonly Date[]; expected: string }> = {
  untouched: { definition: minutely, slots: each, expected: '1t 4m 5l 1t' },
  ends: {
    definition: { ...minutely, ends_at: at('12:01:00') },
    slots: minutes(...upTo12, '12:01'),
    expected: '1t 4m 2l',
  },
  'ends-early': {
    definition: { ...minutely, ends_at: at('11:58:59') },
    slots: minutes('11:55', '11:56', '11:57', '11:58'),
    expected: '1t 2m 1c',
  },
  begins: {
    definition: { ...minutely, starts_at: at('12:01:00') },
    slots: minutes(...after12),
    expected: '4l 1t',
  },
  'begins-between': {
    definition: { every_seconds: 60, starts_at: at('12:01:17'), job },
    slots: ['12:01:17', '12:02:17', '12:03:17', '12:04:17'].map(at),
    expected: '4l',
  },
  'begins-and-ends': {
    definition: { ...minutely, starts_at: at('11:57:30'), ends_at: at('11:59:30'), misfire: 'fire_all' },
    slots: minutes('11:58', '11:59'),
    expected: '2c',
  },
  'paused-before': { definition: minutely, slots: each, expected: '1t 10p' },
  'paused-between': { definition: minutely, slots: each, expected: '1t 2m 4p 3l 1t' },
  // What was due before the pause is not fired in it either.
  'paused-and-left': { definition: minutely, slots: each, expected: '1t 10p' },
  'sent-again': { definition: minutely, slots: each, expected: '1t 4m 5l 1t' },
  'every-five': { definition: minutely, slots: minutes(...upTo12, '12:05'), expected: '1t 4m 1l 1t' },
  'there-and-back': {
    definition: minutely,
    slots: minutes(...upTo12, '12:03', '12:04', '12:05'),
    expected: '1t 4m 3l 1t',
  },
  'fires-all': { definition: minutely, slots: each, expected: '1t 4c 5l 1t' },
  'ended-by-change': { definition: minutely, slots: minutes(...upTo12), expected: '1t 4m 1l' },
};

let world: Movable;
let errand: TestErrand;
const call = calling(() => errand.url);

async function put(name: string, definition: object, headers: Record<string, string> = {}): Promise<void> {
  const { status, json } = await call('PUT', `/v1/schedules/${name}`, definition, headers);
  assert.ok(status === 200 || status === 201, JSON.stringify(json));
}

async function change(name: string, definition: object): Promise<void> {
  const { headers } = await call.get(`/v1/schedules/${name}`);
  await put(name, definition, { 'if-match': headers.get('etag') ?? '' });
}

async function tell(name: string, what: 'pause' | 'resume'): Promise<void> {
  const { status, json } = await call.post(`/v1/schedules/${name}/${what}`, {});
  assert.equal(status, 200, JSON.stringify(json));
}

const goTo = (time: string) => call.post('/test/clock', { now: at(time) });

async function idOf(name: string): Promise<number> {
  return (await world.db.one(sql<{ id: number }>`select id from errand.schedule where name = $1`, [name])).id;
}

const jittered = { ...minutely, jitter_seconds: 60 };
let previewed: { slot: string; due_at: string }[] = [];

describe('an outage in which schedules were changed', () => {
  before(async () => {
    world = await movable(at('11:54:59'));
    errand = await world.start();
    for (const [name, { definition }] of Object.entries(schedules)) await put(name, definition);
    await put('jittered', jittered);
    previewed = (await call.get('/v1/schedules/jittered/preview?count=11')).json.slots;
    await moveTo(errand, world.db, at('11:55:00'));
    await errand.stop();

    errand = await world.start({ ERRAND_ROLES: 'api' });
    await tell('paused-before', 'pause');
    await goTo('11:57:30');
    await tell('paused-between', 'pause');
    await goTo('11:59:30');
    await tell('paused-and-left', 'pause');
    await goTo('12:00:30');
    await put('sent-again', minutely);
    await change('every-five', { cron: '*/5 * * * *', job });
    await change('there-and-back', { cron: '@hourly', job });
    await change('fires-all', { ...minutely, misfire: 'fire_all' });
    await change('ended-by-change', { ...minutely, ends_at: at('12:00:45') });
    await goTo('12:01:30');
    await tell('paused-between', 'resume');
    await goTo('12:02:30');
    await change('there-and-back', minutely);
    await goTo('12:05:00');
    await errand.stop();

    errand = await world.start();
    await moveTo(errand, world.db, at('12:05:00'));
  });
  after(() => world.end());

  for (const [name, { slots, expected }] of Object.entries(schedules)) {
    test(`has left of the schedule "${name}": ${expected}`, async () => {
      assert.equal(await account(world.db, await idOf(name), slots), expected);
    });
  }

  test('has made each slot of a schedule with jitter due in its own moment, as it was previewed', async () => {
    const id = await idOf('jittered');
    const due = previewed.filter(({ due_at }) => Date.parse(due_at) <= at('12:05:00').getTime());
    const signs = due.map(({ due_at }) => {
      const lateness = (at('12:05:00').getTime() - Date.parse(due_at)) / 1_000;
      const isPunctual = Date.parse(due_at) === at('11:55:00').getTime() || lateness <= 1;
      return isPunctual ? 'on_time' : lateness <= 300 ? 'late' : 'skipped';
    });
    const rows = await world.db.many(ledgerOf, [id]);
    assert.deepEqual(
      rows.map(({ slot, due_at, outcome }) => [slot.toISOString(), due_at.toISOString(), outcome]),
      due.map(({ slot, due_at }, n) => [slot, due_at, signs[n]]),
    );
    assert.ok(rows.some(({ slot, due_at }) => due_at > slot));
    await moveTo(errand, world.db, at('12:06:00'));
    const all = await world.db.many(ledgerOf, [id]);
    assert.deepEqual(
      all.slice(0, previewed.length).map(({ slot }) => slot.toISOString()),
      previewed.map(({ slot }) => slot),
    );
  });

  test('has made one job for each slot that was fired', async () => {
    assert.deepEqual(await world.db.many(mismatches), []);
  });

  test('leaves schedules that have ended without a next slot, and the paused ones with one', async () => {
    for (const name of ['ends', 'ends-early', 'begins-and-ends', 'ended-by-change'])
      assert.equal((await call.get(`/v1/schedules/${name}`)).json.next_due_at, null, name);
    await tell('paused-and-left', 'resume');
    await moveTo(errand, world.db, at('12:07:00'));
    const slots = [...each, ...minutes('12:06', '12:07')];
    assert.equal(await account(world.db, await idOf('paused-and-left'), slots), '1t 11p 1t');
  });
});
