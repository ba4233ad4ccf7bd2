// Ends starts: completions, failures, releases and losses all come through here, in coalesced statements.
// Invariants: an ending is accepted only while its lease stands and as the first of its epoch; what is refused changes
// nothing; the same ending repeated is told as accepted again.
// Next room: store/endings.ts `settleJobs`; then wait.ts, which releases callers who wait for the job.
import type { OpenLeases } from '../domain/open-leases.ts';
import { prioAfterLoss } from '../domain/suspicion.ts';
import type { EventBus } from '../events.ts';
import { settleAndTell } from '../store/callbacks.ts';
import { type Pool, sqlState } from '../store/db.ts';
import { type Ending, findOutcomes, isTerminal, type Settled, settleJobs } from '../store/endings.ts';
import { Flush } from '../store/flush.ts';
import type { Ready } from './ready.ts';

export { noDetails } from '../store/endings.ts';

/** The accepted ending, or null: the lease was lost and what the caller brings is dropped. */
export type SettleAnswer = (Settled & { repeated: boolean }) | null;

/** Ends one start of a job that stands in `lane`. */
export type Settle = (ending: Ending, lane: { queue: string; type: string }) => Promise<SettleAnswer>;

export interface SettleOptions {
  db: Pool;
  open: OpenLeases;
  ready: Ready;
  events: EventBus;
  /** Jobs that reached a terminal state, after the commit. */
  onEnded: (ids: string[]) => void;
  /** A job falls due in `ms`. */
  onLater: (ms: number) => void;
  now: () => Date;
}

/** Builds the verb. Throws DatabaseLost: the caller may repeat, an ending that took effect is then told so. */
export function settling(options: SettleOptions): Settle {
  const { db, open, ready, events, onEnded, onLater, now } = options;
  const flush = new Flush<Ending, SettleAnswer>({
    run: async (endings) => {
      const starts = endings.map((ending) => ending.start);
      const settled = await write(endings, open.emptiedBy(starts));
      open.ended(starts);
      const answers = match(endings, settled);
      const missing = endings.filter((_, i) => answers[i] === null);
      if (missing.length > 0) await recognise(db, endings, answers, missing);
      follow(settled, endings);
      return answers;
    },
    inFlight: 2,
    max: 1_000,
    gapMs: 0,
    maxWaiting: 50_000,
    splits: (error) => /^(2[123]|54|55P03|40)/.test(sqlState(error) ?? ''),
  });

  /** A job whose end is to be told of ends in one transaction with the job that tells. */
  async function write(endings: Ending[], emptied: string[]): Promise<Settled[]> {
    if (!endings.some(({ start }) => start.callback)) return settleJobs(db, endings, emptied);
    const { settled, told } = await db.transaction((tx) => settleAndTell(tx, endings, emptied));
    ready.announce(told);
    return settled;
  }

  function follow(settled: Settled[], endings: Ending[]): void {
    const ended = settled.filter(isTerminal).map((one) => one.job_id);
    if (ended.length > 0) onEnded(ended);
    const again = new Set(settled.filter((one) => one.next_at !== null).map((one) => one.job_id));
    if (again.size === 0) return;
    for (const { start, delay_ms } of endings) if (again.has(start.job_id) && delay_ms) onLater(delay_ms);
    ready.announce(
      endings
        .filter((ending) => again.has(ending.start.job_id) && ending.delay_ms === 0)
        .map(({ start, status }) => ({
          lane: start.lane,
          prio:
            status === 'lost' ? prioAfterLoss(start.prio) : status === 'retry' ? start.prio % 10 : start.prio,
        })),
    );
  }

  return async (ending, lane) => {
    const answer = await flush.add(ending);
    const { job_id, epoch, attempt, started_at } = ending.start;
    if (answer === null) {
      events.emit('lease.refused', { job_id, epoch, verb: ending.status });
    } else if (!answer.repeated) {
      events.emit('job.ended', {
        job_id,
        ...lane,
        epoch,
        attempt,
        outcome: answer.status,
        class: ending.class,
        run_ms: now().getTime() - new Date(started_at).getTime(),
      });
    }
    return answer;
  };
}

function match(endings: readonly Ending[], settled: readonly Settled[]): SettleAnswer[] {
  const byStart = new Map(settled.map((one) => [`${one.job_id}.${one.epoch}`, one]));
  return endings.map(({ start }) => {
    const key = `${start.job_id}.${start.epoch}`;
    const one = byStart.get(key);
    // The same start twice in one batch: the first is the one that was written.
    byStart.delete(key);
    return one === undefined ? null : { ...one, repeated: false };
  });
}

/** An ending that was not accepted now may be one that was accepted before: a repeated call deserves the same answer. */
async function recognise(
  db: Pool,
  endings: Ending[],
  answers: SettleAnswer[],
  missing: Ending[],
): Promise<void> {
  const rows = await db.many(findOutcomes, [
    missing.map((ending) => ending.start.job_id),
    missing.map((ending) => ending.start.epoch),
    missing.map((ending) => ending.result),
    missing.map((ending) => ending.created_uri),
  ]);
  const recorded = new Map(rows.map((row) => [missing[row.n - 1], row]));
  endings.forEach((ending, i) => {
    const row = recorded.get(ending);
    if (row === undefined || row.class !== ending.class || row.source !== ending.source) return;
    // Another result would be dropped without a word.
    if (!row.brings_the_same) return;
    // A failure or a release under a cancel was written as the cancel's end, and the repeat cannot know of the cancel.
    const wasCancelled = row.status === 'cancelled' && ending.status !== 'succeeded';
    if (row.status === ending.status || wasCancelled) answers[i] = { ...row, repeated: true };
  });
}
