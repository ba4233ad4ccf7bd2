// What is said of operations: where nothing fits it is told, and only where that is known.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitedTo, type OperationFacts, operationRecord } from '../../src/domain/operation.ts';

const none = { jobs: 0, at_least: false, oldest: null };
const ten = { ...none, jobs: 10 };
const facts = {
  ...{ kind: 'queue.reroute', target: 'emails', state: 'running', phase: 'work', matched: 0, expected: none },
  finished_at: null,
} as OperationFacts;

for (const [what, over, note] of [
  ['that was to meet nothing', {}, 'no job of queue "emails" fits'],
  ['that met nothing in the end', { state: 'done', expected: ten }, 'no job of queue "emails" fits'],
  ['for dead letters of any queue', { kind: 'dead_letters.discard', target: '*' }, 'no dead letter fits'],
  ['that has met a job after all', { matched: 1 }, null],
  ['that has not come to its jobs', { expected: ten }, null],
  ['that was stopped before it came to its jobs', { state: 'cancelled', expected: ten }, null],
  ['whose counting was cut off', { expected: { ...none, at_least: true } }, null],
  ['that is to ask what runs to stop', { expected: { ...none, running: 2 } }, null],
] as [string, Partial<OperationFacts>, string | null][]) {
  test(`an operation ${what} has the note ${note}`, () => {
    assert.equal((operationRecord({ ...facts, ...over }) as { note: string | null }).note, note);
  });
}

test('a limit is for what waits first, then for what runs', () => {
  assert.deepEqual(limitedTo({ ...ten, at_least: true }, 4), { ...ten, jobs: 4 });
  assert.deepEqual(limitedTo({ ...ten, running: 7 }, 12), { ...ten, running: 2 });
  assert.deepEqual(limitedTo({ ...ten, running: 7 }, null), { ...ten, running: 7 });
});
