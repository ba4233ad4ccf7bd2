// Ends starts: completions, failures, releases and losses all come through here, in coalesced statements.
// Invariants: an ending is accepted only while its lease stands and as the first of its epoch; what is refused changes
// nothing; the same ending repeated is told as accepted again.
// Next room: store/endings.ts `settleJobs`; then wait.ts, which releases callers who wait for the job.
import type { OpenLeases } from '../domain/open-leases.ts';
import { stateAfter } from '../domain/outcome.ts';
import { prioAfterLoss } from '../domain/suspicion.ts';
import type { EventBus } from '../events.ts';
import { settleAndTell } from '../store/callbacks.ts';
import { type Pool, sqlState } from '../store/db.ts';
import {
  type Answered,
  type Ending,
  findOutcomes,
  isTerminal,
  matched,
  settleJobs,
} from '../store/endings.ts';
import { Flush } from '../store/flush.ts';
import { holder_patience_ms } from '../store/line.ts';
import { tellOfCallbacks } from './news.ts';
import type { Ready } from './ready.ts';

export { noDetails } from '../store/endings.ts';

/** The accepted ending, or null: the lease was lost and what the caller brings is dropped. */
export type SettleAnswer = Answered;

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
  // Leases without an open job that no settle has deleted yet.
  let bare: string[] = [];
  let underWay = 0;
  const flush = new Flush<Settling, SettleAnswer>({
    run: async (batch) => {
      const endings = batch.map((one) => one.ending);
      const starts = endings.map((ending) => ending.start);
      const emptied = open.emptiedBy(starts).concat(bare);
      bare = [];
      underWay++;
      const answers = await write(endings, emptied).finally(() => underWay--);
      bare.push(...open.ended(starts).filter((lease) => !emptied.includes(lease)));
      if (underWay === 0 && flush.waiting === 0) sweep();
      follow(answers, endings);
      await recognise(db, endings, answers);
      tell(batch, answers);
      return answers;
    },
    inFlight: 2,
    max: 1_000,
    gapMs: 0,
    maxWaiting: 50_000,
    patienceMs: holder_patience_ms,
    splits: (error) => /^(2[123]|54|55P03|40)/.test(sqlState(error) ?? ''),
  });

  /** What the last settles of a burst left: without it these leases would stand until they run out. */
  function sweep(): void {
    if (bare.length === 0) return;
    void settleJobs(db, [], bare).catch(() => {});
    bare = [];
  }

  /** A job whose end is to be told of ends in one transaction with the job that tells. */
  async function write(endings: Ending[], emptied: string[]): Promise<SettleAnswer[]> {
    if (!endings.some(({ start }) => start.callback)) return settleJobs(db, endings, emptied);
    const { settled, told } = await db.transaction((tx) => settleAndTell(tx, endings, emptied));
    tellOfCallbacks(told, { ready, events });
    return matched(endings, settled);
  }

  function follow(answers: readonly SettleAnswer[], endings: Ending[]): void {
    const ended: string[] = [];
    const again: { lane: number; prio: number }[] = [];
    answers.forEach((answer, i) => {
      if (answer === null) return;
      if (isTerminal(answer)) ended.push(answer.job_id);
      if (answer.next_at === null) return;
      const { start, status, delay_ms } = endings[i] as Ending;
      if (delay_ms) onLater(delay_ms);
      else again.push({ lane: start.lane, prio: prioAfter(status, start.prio) });
    });
    if (ended.length > 0) onEnded(ended);
    if (again.length > 0) ready.announce(again);
  }

  function tell(batch: readonly Settling[], answers: readonly SettleAnswer[]): void {
    const at = now().getTime();
    batch.forEach(({ ending, lane }, i) => {
      const { job_id, epoch, attempt, started_at } = ending.start;
      const { status } = ending;
      const answer = answers[i];
      if (answer === null || answer === undefined) {
        events.emit('lease.refused', { job_id, epoch, verb: status });
      } else if (!answer.repeated) {
        events.emit('job.ended', {
          job_id,
          lane: ending.start.lane,
          queue: lane.queue,
          type: lane.type,
          epoch,
          attempt,
          outcome: answer.status,
          class: ending.class,
          run_ms: at - started_at.getTime(),
          from: ending.unstarted ? 'queued' : 'running',
          to: stateAfter(answer.status, attempt, ending.delay_ms),
        });
      }
    });
  }

  return (ending, lane) => flush.add({ ending, lane });
}

interface Settling {
  ending: Ending;
  lane: { queue: string; type: string };
}

/** Where a start that is to run again stands, as the statement decides it. */
function prioAfter(status: Ending['status'], prio: number): number {
  return status === 'lost' ? prioAfterLoss(prio) : status === 'retry' ? prio % 10 : prio;
}

/** An ending that was not accepted now may be one that was accepted before: a repeated call deserves the same answer. */
async function recognise(db: Pool, endings: readonly Ending[], answers: SettleAnswer[]): Promise<void> {
  const missing = endings.filter((_, i) => answers[i] === null);
  if (missing.length === 0) return;
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
