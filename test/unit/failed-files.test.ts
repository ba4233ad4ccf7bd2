// What "npm test" goes by when it says that all is well: a file that failed is named, and so is one whose report breaks off.
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import type { TestEvent } from 'node:test/reporters';
import failedFiles from '../support/failed-files.ts';

async function named(...events: { type: string; data: object }[]): Promise<string[]> {
  async function* all() {
    yield* events as unknown as TestEvent[];
  }
  const lines: string[] = [];
  for await (const line of failedFiles(all())) lines.push(line.trim());
  return lines;
}

const begins = (name: string) => ({ type: 'test:dequeue', data: { name, file: resolve(name) } });
const runs = (name: string, file: string) => ({ type: 'test:dequeue', data: { name, file: resolve(file) } });
const fails = (file?: string) => ({ type: 'test:fail', data: { name: 'a test', ...(file && { file }) } });
const sumsUp = (name?: string) => ({ type: 'test:summary', data: name ? { file: resolve(name) } : {} });

test('a file is named for each failure in it, and a failure without a file by "?"', async () => {
  const [a, b] = ['a.test.ts', 'b.test.ts'];
  const files = await named(begins(a), begins(b), fails(a), fails(), sumsUp(a), sumsUp(b), sumsUp());
  assert.deepEqual(files, [a, '?']);
});

test('a file that began and never summed up its tests is named, although nothing failed', async () => {
  const [a, b] = ['a.test.ts', 'b.test.ts'];
  const files = await named(begins(a), runs('one of it', a), begins(b), sumsUp(b), sumsUp());
  assert.deepEqual(files, [resolve(a)]);
});
