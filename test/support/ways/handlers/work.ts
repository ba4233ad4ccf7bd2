// Why this room exists: the work of the suite as a handler.
// Next room: test/support/ways/work.ts.
import { defineHandler } from '../../../../src/errand.ts';
import { type Work, work } from '../work.ts';

export default defineHandler<Work>({
  type: 'work',
  run: (payload, { job_id, attempt, signal }) => work(payload, { job_id, attempt }, signal),
});
