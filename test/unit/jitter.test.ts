// Proves that a slot is due when its name says, within the jitter and nowhere else, and spread over all of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cadenceOf } from '../../src/domain/cadence.ts';
import { CadenceFault } from '../../src/domain/cadence-fault.ts';
import { checkJitter, dueOf } from '../../src/domain/jitter.ts';

const slot = new Date('2026-01-01T02:00:00Z');
const specOf = { timezone: 'UTC', starts_at: null, ends_at: null };
const cronOf = (cron: string, timezone = 'UTC') =>
  cadenceOf({ ...specOf, cron, timezone, every_seconds: null }, 'a');

test('without jitter a slot is due when it is', () =>
  assert.equal(dueOf(slot, 0, 'a').getTime(), slot.getTime()));

test('a slot is always due at the same moment, other slots and other names at others', () => {
  assert.deepEqual(dueOf(slot, 300, 'a'), dueOf(slot, 300, 'a'));
  const next = new Date(slot.getTime() + 86_400_000);
  assert.notEqual(
    dueOf(next, 300, 'a').getTime() - next.getTime(),
    dueOf(slot, 300, 'a').getTime() - slot.getTime(),
  );
  assert.notDeepEqual(dueOf(slot, 300, 'b'), dueOf(slot, 300, 'a'));
});

test('a thousand names spread over the whole of the jitter, its ends included', () => {
  const tenths = new Map<number, number>();
  for (let n = 0; n < 1000; n += 1) {
    const delay = dueOf(slot, 60, `schedule-${n}`).getTime() - slot.getTime();
    assert.ok(delay >= 0 && delay <= 60_000);
    const tenth = Math.min(9, Math.floor(delay / 6000));
    tenths.set(tenth, (tenths.get(tenth) ?? 0) + 1);
  }
  assert.equal(tenths.size, 10);
  assert.ok(
    Math.min(...tenths.values()) > 60 && Math.max(...tenths.values()) < 140,
    String([...tenths.values()]),
  );
  const few = new Set(
    Array.from({ length: 200 }, (_, n) => dueOf(slot, 0.001, `${n}`).getTime() - slot.getTime()),
  );
  assert.deepEqual([...few].sort(), [0, 1]);
});

test('a jitter longer than the shortest distance of slots is refused, one as long is not', () => {
  const refused = (cadence: ReturnType<typeof cadenceOf>, jitter: number, detail: RegExp) =>
    assert.throws(
      () => checkJitter(cadence, jitter),
      (error) =>
        error instanceof CadenceFault && error.member === 'jitter_seconds' && detail.test(error.detail),
    );
  checkJitter(cronOf('*/5 * * * *'), 300);
  refused(
    cronOf('*/5 * * * *'),
    301,
    /^jitter_seconds is 301, but slots are as close as 300 s; use at most 300$/,
  );
  refused(cronOf('0,10 2 * * *'), 601, /as close as 600 s/);
  const every = cadenceOf({ ...specOf, cron: null, every_seconds: 30 }, 'a');
  checkJitter(every, 30);
  refused(every, 31, /as close as 30 s/);
});

test('a schedule with a single slot may be due whenever', () => {
  const bounds = { starts_at: '2026-01-01T00:00:00Z', ends_at: '2026-01-01T00:00:00Z' };
  checkJitter(cadenceOf({ ...specOf, ...bounds, cron: '0 0 * * *', every_seconds: null }, 'a'), 86_400);
});
