// Why this room exists: the job of a slot, as small as it can be: it answers with the moment it was told it is for.
// Next room: test/support/schedule-run.ts, which declares schedules of it; ledger-books.ts, which compares.
import { defineHandler } from '../../../src/errand.ts';

export default defineHandler({ type: 'slot', run: (_payload, { scheduled_for }) => scheduled_for });
