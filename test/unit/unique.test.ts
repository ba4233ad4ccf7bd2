// The rules of unique keys: when a holder holds, and what becomes of whoever meets it (docs/contract.md, Unique jobs).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTerminal, jobStates } from '../../src/domain/job.ts';
import {
  type Fate,
  fateOf,
  goesOn,
  type Holder,
  holdingStates,
  holds,
  onConflicts,
} from '../../src/domain/unique.ts';

const holder = (over: Partial<Holder>): Holder => ({
  job_id: '7',
  state: 'queued',
  holding: [...holdingStates],
  in_window: false,
  set_aside: false,
  ...over,
});

test('a job holds its key in the states it has named, and in no other', () => {
  for (const state of jobStates) {
    assert.equal(holds(holder({ state })), (holdingStates as readonly string[]).includes(state), state);
    assert.equal(holds(holder({ state, holding: ['queued'] })), state === 'queued', state);
  }
});

test('a window holds for what is open or has succeeded, and for no failure', () => {
  const held = jobStates.filter((state) => holds(holder({ state, holding: ['queued'], in_window: true })));
  assert.deepEqual(
    held,
    jobStates.filter((state) => state === 'succeeded' || !isTerminal(state)),
  );
});

test('a job that is not there holds nothing', () => {
  assert.equal(holds(holder({ state: null })), false);
  assert.equal(holds(holder({ holding: null, in_window: true })), false);
});

test('what becomes of a job is decided by its own wish and the state of the holder', () => {
  const fates = (over: Partial<Holder>): Record<string, Fate> =>
    Object.fromEntries(onConflicts.map((wish) => [wish, fateOf(wish, holder(over))]));
  for (const state of ['scheduled', 'queued', 'retrying'] as const) {
    const waits = { return: 'return', reject: 'refuse', replace: 'replace', rerun: 'replace' };
    assert.deepEqual(fates({ state }), waits, state);
  }
  const runs = { return: 'return', reject: 'refuse', replace: 'refuse', rerun: 'wait' };
  assert.deepEqual(fates({ state: 'running' }), runs);
  const done = { return: 'return', reject: 'refuse', replace: 'refuse', rerun: 'take' };
  assert.deepEqual(fates({ state: 'succeeded', in_window: true }), done);
  const free = { return: 'take', reject: 'take', replace: 'take', rerun: 'take' };
  assert.deepEqual(fates({ state: 'succeeded' }), free);
  assert.deepEqual(fates({ state: 'dead', in_window: true }), free);
});

test('whoever comes takes the place of a holder that is about to be cancelled', () => {
  for (const wish of onConflicts) assert.equal(fateOf(wish, holder({ set_aside: true })), 'replace', wish);
  assert.equal(fateOf('return', holder({ state: 'cancelled', set_aside: false })), 'take');
});

test('one that is to run once more waits for the end of the holder, and for no window', () => {
  const next = (over: Partial<Holder>) => goesOn({ ...holder(over), first_waiting: '8', rerun: '9' });
  for (const state of ['scheduled', 'queued', 'running', 'retrying'] as const)
    assert.equal(next({ state }), null, state);
  for (const state of ['succeeded', 'dead', 'cancelled', 'expired'] as const)
    assert.equal(next({ state }), '8', state);
  assert.equal(next({ state: 'succeeded', in_window: true }), '9');
  assert.equal(next({ state: 'running', in_window: true }), null);
  assert.equal(next({ state: null, holding: null }), '8');
});
