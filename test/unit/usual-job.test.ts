// The short check of a submit is a shortcut, not another contract: whatever it takes, the schema takes the same way.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RawJson } from '../../src/domain/json.ts';
import { CompletionItem, usualCompletion } from '../../src/http/schemas/many-leases.ts';
import { NewJob, usualJob } from '../../src/http/schemas/new-job.ts';

const payload = new RawJson('{"a":1}');

const name = fc.oneof(
  fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,62}$/),
  fc.constantFrom('', '-a', 'A', 'a'.repeat(63), 'a'.repeat(64), 'a\n', 'é', 'default'),
  fc.string(),
);
const anything = fc.oneof(fc.constantFrom(null, undefined, true, 1, 'x', payload), fc.jsonValue());
const usual = {
  type: fc.oneof({ weight: 8, arbitrary: name }, anything),
  queue: fc.oneof({ weight: 8, arbitrary: name }, anything),
  payload: fc.oneof({ weight: 8, arbitrary: fc.constant(payload) }, anything),
  priority: fc.oneof({ weight: 8, arbitrary: fc.integer({ min: -1, max: 10 }) }, fc.double(), anything),
};
const more = {
  timeout_seconds: fc.integer({ min: 0, max: 90_000 }),
  tags: fc.array(fc.string()),
  other: anything,
};
const body = fc
  .oneof(
    { weight: 4, arbitrary: fc.record(usual, { requiredKeys: ['type', 'payload'] }) },
    fc.record({ ...usual, ...more }, { requiredKeys: [] }),
  )
  // What a body holds was sent: undefined is nowhere in it.
  .map((members) => Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)));

test('whatever the short check takes, the schema makes the same of', () => {
  let taken = 0;
  fc.assert(
    fc.property(fc.oneof({ weight: 20, arbitrary: body }, anything), (given) => {
      const usual = usualJob(given);
      if (usual === null) return;
      taken++;
      assert.deepEqual(usual, NewJob.parse(given));
    }),
    { numRuns: 3_000 },
  );
  assert.ok(taken > 100, `only ${taken} bodies were taken`);
});

test('the short check takes what most callers send', () => {
  for (const given of [
    { type: 'noop', payload },
    { type: 'noop', payload, queue: 'mail' },
    { type: 'noop', payload, queue: 'mail', priority: 0 },
  ]) {
    assert.deepEqual(usualJob(given), NewJob.parse(given));
  }
});

test('whatever the short check of a completion takes, the schema makes the same of', () => {
  const members = {
    id: fc.oneof({ weight: 8, arbitrary: fc.string({ maxLength: 250 }) }, anything),
    result: fc.oneof({ weight: 8, arbitrary: fc.constant(payload) }, anything),
    created: fc.webUrl(),
    other: anything,
  };
  const item = fc
    .oneof(
      {
        weight: 4,
        arbitrary: fc.record({ id: members.id, result: members.result }, { requiredKeys: ['id'] }),
      },
      fc.record(members, { requiredKeys: [] }),
    )
    .map((sent) => Object.fromEntries(Object.entries(sent).filter(([, value]) => value !== undefined)));
  let taken = 0;
  fc.assert(
    fc.property(fc.oneof({ weight: 20, arbitrary: item }, anything), (given) => {
      const usual = usualCompletion(given);
      if (usual === null) return;
      taken++;
      assert.deepEqual(usual, CompletionItem.parse(given));
    }),
    { numRuns: 3_000 },
  );
  assert.ok(taken > 100, `only ${taken} items were taken`);
});
