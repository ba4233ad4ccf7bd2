// A bag holds what was put in and not yet taken out, whatever the order of both.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Bag } from '../../src/domain/bag.ts';

test('a bag holds what a set would hold, after any row of additions and deletions', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(30), { maxLength: 300 }), (touched) => {
      const things = Array.from({ length: 31 }, (_, n) => ({ n }));
      const bag = new Bag<{ n: number }>();
      const set = new Set<{ n: number }>();
      for (const n of touched) {
        const thing = things[n] as { n: number };
        if (set.delete(thing)) bag.delete(thing);
        else {
          set.add(thing);
          bag.add(thing);
        }
        assert.equal(bag.size, set.size);
        assert.deepEqual(new Set(bag), set);
      }
      assert.equal(
        bag.some(({ n }) => n === 7),
        [...set].some(({ n }) => n === 7),
      );
    }),
  );
});
