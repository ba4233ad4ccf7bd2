// Why this room exists: with --test-force-exit a test file ends by `process.exit()`, and what the pipe to the runner had not
// taken by then is lost: tests that passed are not counted, and nobody is told (nodejs/node issue 64833).
// Invariant: what a test file reports is written before it goes on.
// Next room: ../run.ts, which has every test file load this first; failed-files.ts, which notices a report without an end.

interface Pipe {
  readonly _handle?: { setBlocking?(on: boolean): void };
}

// The one thing node has for it is this, which libraries for command lines use as well.
if (process.env.NODE_TEST_CONTEXT !== undefined)
  (process.stdout as unknown as Pipe)._handle?.setBlocking?.(true);
