// Why this room exists: "npm test -- --again" has to know which files failed; the lines people read are no place to ask.
// Invariant: a file is named once for each failure in it, one a line, and also where its report breaks off; a failure without
// a file is named "?", so that it is never taken for none.
// Next room: ../run.ts, which reads the list.
import { resolve } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

/** A reporter of node:test that lists the files in which something failed. */
export default async function* failedFiles(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const begun = new Set<string>();
  for await (const { type, data } of events) {
    if (type === 'test:fail' && data.todo === undefined) yield `${data.file ?? '?'}\n`;
    // A file is a test by its own name.
    if (type === 'test:dequeue' && data.file !== undefined && resolve(data.name) === data.file)
      begun.add(data.file);
    // Each file sums up its tests, last of all.
    if (type === 'test:summary' && data.file !== undefined) begun.delete(data.file);
  }
  for (const file of begun) yield `${file}\n`;
}
