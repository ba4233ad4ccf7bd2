// The program against its own document, over real sockets and a real database: every operation is asked what its schemas
// allow and what they do not, and no answer may be one the document does not foresee. Routes are found in the document;
// the drill `fuzz` does the same for longer.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startWatched } from '../support/fuzz.ts';

const { fuzz, troubles, complaint, stop } = await startWatched();
after(stop);

for (const operation of fuzz.operations) {
  test(`${operation.method} ${operation.path} answers what its document says, whatever is asked`, () =>
    fuzz.probe(operation, { seed: 20_26, numRuns: 12 }));
}

test('afterwards the service is well, and it met no fault of its own', async () => {
  assert.deepEqual(troubles, []);
  assert.equal(await complaint(), null);
});

test('the requests went deep: successes, redirects, conflicts, waits that ran out and refusals were met', () => {
  const expected = [200, 202, 303, 304, 400, 404, 409, 412, 415, 417, 422];
  assert.deepEqual(
    expected.filter((status) => !fuzz.statuses.has(status)),
    [],
  );
});
