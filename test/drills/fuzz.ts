// The program against its own OpenAPI document, as test/http/fuzz.test.ts does it, but longer and from another seed each
// time; the seed is in the verdict.
// Invariant: an operation that never answered with a success was not tested, and makes the drill VACUOUS.
// Next room: test/support/fuzz.ts.
import { startWatched } from '../support/fuzz.ts';
import type { Drill } from './drill.ts';

const runs = { short: 120, long: 1_000 };

export const drill: Drill = {
  name: 'fuzz',
  proves:
    'whatever is asked, every operation answers what the OpenAPI document says, and the service stays well',
  profiles: ['short', 'long'],
  limit_minutes: 30,
  async run({ profile, seed, say }) {
    const { fuzz, troubles, complaint, stop } = await startWatched();
    try {
      const faults: string[] = [];
      for (const operation of fuzz.operations) {
        const fault = await fuzz.probe(operation, { seed, numRuns: runs[profile] }).catch(String);
        if (fault !== undefined) faults.push(fault);
        say(`${operation.object.operationId.padEnd(24)} ${fuzz.tally(operation)}`);
      }
      const unwell = await complaint();
      if (unwell !== null) faults.push(`it is not well afterwards: ${unwell}`);
      faults.push(...troubles);
      if (faults.length > 0) return { result: 'FAIL', reason: faults.join('\n') };
      const figures = {
        operations: fuzz.operations.length,
        runs_each: runs[profile],
        requests: fuzz.requests,
      };
      const untouched = fuzz.operations.filter((operation) => !fuzz.succeeded(operation));
      if (untouched.length === 0) return { result: 'PASS', figures };
      const names = untouched.map(({ object }) => object.operationId).join(', ');
      return { result: 'VACUOUS', reason: `never answered with a success: ${names}`, figures };
    } finally {
      await stop();
    }
  },
};
