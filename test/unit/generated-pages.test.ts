// Proves that the pages generated from the program are those in the repository.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { driftedPages } from '../../docs/generate.ts';

test('the generated pages are as the program says; else run node docs/generate.ts', () => {
  assert.deepEqual(driftedPages(), []);
});

test('a changed page and a left-over page are noticed', () => {
  const drifted = driftedPages([{ path: 'docs/problems/not-found.md', content: 'something else' }]);
  assert.ok(drifted.includes('docs/problems/not-found.md'));
  assert.ok(drifted.includes('docs/problems/internal.md'));
});
