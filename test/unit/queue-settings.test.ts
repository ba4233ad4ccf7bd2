// What can be set of a queue is checked as a whole, and what was kept by another release is still read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QueueSettings, retryDefaultsOf, settingsFrom, unsetQueue } from '../../src/domain/queue-settings.ts';

const refused: readonly (readonly [string, unknown, string])[] = [
  ['a member nobody knows', { syncc: 'allowed' }, ''],
  ['a mode nobody knows', { sync: 'never' }, 'sync'],
  [
    'a default wait where nobody waits',
    { sync: 'async_only', default_wait_seconds: 5 },
    'default_wait_seconds',
  ],
  [
    'a look at waits where nobody waits',
    { sync: 'async_only', refuse_late_waits: true },
    'refuse_late_waits',
  ],
  ['an age limit of nothing', { max_oldest_age_seconds: 0 }, 'max_oldest_age_seconds'],
  ['a depth of nothing', { max_depth: 0 }, 'max_depth'],
  ['a priority there is not', { critical_priority: 10 }, 'critical_priority'],
  ['a type that cannot be one', { types: { 'No Name': {} } }, 'types/No Name'],
  [
    'a backoff that contradicts itself',
    { defaults: { backoff: { base_seconds: 9, cap_seconds: 1 } } },
    'defaults/backoff/cap_seconds',
  ],
  [
    'more types than it may name',
    { types: Object.fromEntries(Array.from({ length: 201 }, (_, i) => [`t${i}`, {}])) },
    'types',
  ],
];

for (const [what, settings, path] of refused) {
  test(`refused are settings with ${what}`, () => {
    const parsed = QueueSettings.safeParse(settings);
    assert.equal(parsed.success, false);
    assert.equal(parsed.error?.issues[0]?.path.join('/'), path);
  });
}

test('a queue that nobody has set anything of has the defaults, and nobody can change them', () => {
  assert.equal(unsetQueue.sync, 'allowed');
  assert.equal(unsetQueue.critical_priority, 0);
  assert.ok(Object.isFrozen(unsetQueue) && Object.isFrozen(unsetQueue.defaults));
});

test('what is set of a type comes before the defaults of its queue, member by member', () => {
  const settings = QueueSettings.parse({
    defaults: { max_attempts: 3, timeout_seconds: 10 },
    types: { mail: { max_attempts: 1 } },
  });
  const of = (type: string) => {
    const { max_attempts, timeout_seconds } = retryDefaultsOf(settings, type);
    return { max_attempts, timeout_seconds };
  };
  assert.deepEqual(of('mail'), { max_attempts: 1, timeout_seconds: 10 });
  assert.deepEqual(of('other'), { max_attempts: 3, timeout_seconds: 10 });
  assert.deepEqual(of('constructor'), { max_attempts: 3, timeout_seconds: 10 });
});

test('settings kept by another release are read: what is new is kept, what is missing has its default', () => {
  const read = settingsFrom({
    sync: 'sync_only',
    types: { mail: { max_attempts: 2 } },
    from_the_future: 1,
  } as never);
  assert.equal(read.sync, 'sync_only');
  assert.equal(read.max_depth, null);
  assert.equal(retryDefaultsOf(read, 'mail').max_attempts, 2);
  assert.equal(retryDefaultsOf(read, 'mail').backoff, null);
});
