// Drill: a queue is filled over its limit while it drains steadily. Who is refused is told when to come again, and that is held
// against the moment at which the queue took jobs again; critical jobs are taken all the while.
// Next room: test/support/guarded-drain.ts.
import { guardedDrain } from '../support/guarded-drain.ts';
import type { Drill, Verdict } from './drill.ts';

/** From when on the rate of a drain is known, in s. */
const known_after = 6;
/** Nearer to the end whole seconds are too coarse. */
const least_seconds = 6;

export const drill: Drill = {
  name: 'guards',
  proves: 'a full queue takes what is critical, and tells the others within 30 % when it takes them again',
  profiles: ['short', 'long'],
  async run({ profile, say }): Promise<Verdict> {
    const max_depth = profile === 'long' ? 6_000 : 3_000;
    const books = await guardedDrain({ max_depth, slots: 4, run_ms: 200, ask_ms: 1_000 });
    const began = books.told[0]?.was_seconds ?? 0;
    const judged = books.told.filter(
      ({ was_seconds: was }) => was <= began - known_after && was >= least_seconds,
    );
    const worst = Math.max(
      ...judged.map(({ said_seconds: said, was_seconds: was }) => Math.abs(said / was - 1)),
    );
    say(
      `${books.told.length} refused, ${judged.length} judged, at worst ${Math.round(worst * 100)} % beside the truth`,
    );
    const figures = {
      max_depth,
      drain_seconds: Math.round(began),
      refused: books.told.length,
      judged: judged.length,
      worst_off_percent: Math.round(worst * 100),
      critical_taken: books.critical.filter((status) => status === 202).length,
      closed_at: books.closed_at,
      opened_at: books.opened_at,
    };
    if (judged.length < 5) return { result: 'VACUOUS', reason: 'hardly anybody was refused', figures };
    const faults = [
      worst > 0.3 ? 'a Retry-After was more than 30 % beside the truth' : '',
      books.critical.some((status) => status !== 202) ? 'a critical job was refused' : '',
      books.closed_at < max_depth - 50 ? 'it closed below its limit' : '',
      books.opened_at > max_depth * 0.8 + 10 ? 'it opened too early' : '',
      books.opened_at < max_depth * 0.75 ? 'it opened too late' : '',
    ].filter((fault) => fault !== '');
    return faults.length === 0
      ? { result: 'PASS', figures }
      : { result: 'FAIL', reason: faults.join('; '), figures };
  },
};
