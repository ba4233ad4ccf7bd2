// Why this room exists: "npm test -- --again" has to know which files failed; the lines people read are no place to ask.
// Invariant: a file is named once for each failure in it, one a line; a failure without a file is named "?", so that it is
// never taken for none.
// Next room: ../run.ts, which reads the list.
import type { TestEvent } from 'node:test/reporters';

/** A reporter of node:test that lists the files in which something failed. */
export default async function* failedFiles(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (event.type === 'test:fail' && event.data.todo === undefined) yield `${event.data.file ?? '?'}\n`;
  }
}
