// Counts what happens to jobs, in memory and lane by lane, and writes the counts down once a second: a job pays a few
// additions for it and no statement.
// Invariants: every move of a job comes by as one event and is counted once; what could not be written is kept, and written
// later; a row is written with all that its stretch of time has seen, so writing it again changes nothing; when it may
// have been folded already, only what is new is written, and as of now.
// Next room: store/tallies.ts; statistics.ts reads what all processes wrote.
import { addTo, bucketOf, emptyHistogram, type Histogram, sparse } from '../domain/histogram.ts';
import type { JobState } from '../domain/job.ts';
import { happeningOf, happenings, isKept, keptStates, noCounts, type TallyRow } from '../domain/tally.ts';
import type { EventBus } from '../events.ts';
import type { Db } from '../store/db.ts';
import { databaseTime, writeTallies } from '../store/tallies.ts';

/** How long a stretch of time is that shares a row, in ms. */
export const slot_ms = 10_000;
/** Sooner than the leader folds what nobody writes any more (fold.ts), in ms. */
const folded_ms = 100_000;
/** Stretches that are kept while they cannot be written; of more the oldest is dropped, and the recount mends the depth. */
const most_slots = 60;
const most_rows = 1_000;

interface LaneTally extends ReturnType<typeof noCounts> {
  lane: number;
  slot: number;
  wait: Histogram | null;
  run: Histogram | null;
  failed: Histogram | null;
  /** Whether something was counted that is not written. */
  dirty: boolean;
  /** As it was written last; null: it never was. */
  told: TallyRow | null;
}

interface Counter {
  /** By how much the number of queued jobs changed since this process began, as far as it did it. */
  queued: number;
  present: LaneTally | null;
}

export class Tally {
  #db: Db;
  #process: number;
  #counters = new Map<number, Counter>();
  #present: LaneTally[] = [];
  /** Stretches that are over and not written yet, oldest first. */
  #past: LaneTally[][] = [];
  #slot = 0;
  #flushing: Promise<number> = Promise.resolve(0);
  /** What is to be added to the monotonic clock for the time of the database. */
  #offset = Date.now() - performance.now();

  constructor({ db, process, events }: { db: Db; process: number; events: EventBus }) {
    this.#db = db;
    this.#process = process;
    this.#slot = this.#now();
    events.on('job.submitted', ({ lane, state, replayed }) => {
      if (!replayed) this.#arrive(lane, state, 1);
    });
    events.on('job.claimed', ({ lane, wait_ms }) => {
      const tally = this.#of(lane);
      tally.started++;
      this.#move(tally, 'queued', -1);
      tally.running++;
      tally.wait ??= emptyHistogram();
      (tally.wait[bucketOf(wait_ms)] as number)++;
    });
    events.on('job.ended', ({ lane, outcome, run_ms, from, to }) => {
      const tally = this.#of(lane);
      tally[happeningOf[outcome]]++;
      this.#move(tally, from, -1);
      this.#move(tally, to, 1);
      if (run_ms === null) return;
      if (outcome === 'succeeded') {
        tally.run ??= emptyHistogram();
        (tally.run[bucketOf(run_ms)] as number)++;
      } else if (outcome === 'retry' || outcome === 'dead') {
        tally.failed ??= emptyHistogram();
        (tally.failed[bucketOf(run_ms)] as number)++;
      }
    });
    events.on('jobs.moved', ({ jobs, from, to }) => {
      // A dead letter that is put back is no new job.
      if (from === null && to !== null && to.state !== 'dead') return this.#arrive(to.lane, to.state, jobs);
      if (from !== null) this.#move(this.#of(from.lane), from.state, -jobs);
      if (to !== null) this.#move(this.#of(to.lane), to.state, jobs);
    });
  }

  /** By how much this process changed the number of queued jobs of a lane since it began. */
  queuedBy(lane: number): number {
    return this.#counters.get(lane)?.queued ?? 0;
  }

  /** Learns the time of the database, by which stretches of time are told apart. */
  async learnTime(): Promise<void> {
    this.#setTime((await this.#db.one(databaseTime)).now_ms);
    if (this.#present.length === 0) this.#slot = this.#now();
  }

  /** Writes what was counted until now; does nothing where nothing was. Answers how many rows it wrote. */
  flush(): Promise<number> {
    const mine = this.#flushing.then(() => this.#write());
    this.#flushing = mine.catch(() => 0);
    return mine;
  }

  async #write(): Promise<number> {
    this.#turn();
    this.#leaveFolded();
    let written = 0;
    for (let rows = this.#dirty(); rows.length > 0; rows = this.#dirty()) {
      for (const row of rows) row.dirty = false;
      const texts = rows.map((row) => ({ ...rowOf(row), process: this.#process }));
      try {
        this.#setTime((await this.#db.one(writeTallies, [JSON.stringify(texts)])).now_ms);
      } catch (error) {
        for (const row of rows) row.dirty = true;
        throw error;
      }
      for (const [i, row] of rows.entries()) row.told = texts[i] ?? null;
      written += rows.length;
      if (rows.length < most_rows) break;
    }
    this.#past = this.#past.filter((rows) => rows.some((row) => row.dirty));
    return written;
  }

  #arrive(lane: number, state: JobState, jobs: number): void {
    const tally = this.#of(lane);
    tally.arrived += jobs;
    this.#move(tally, state, jobs);
  }

  #move(tally: LaneTally, state: JobState, jobs: number): void {
    if (!isKept(state)) return;
    tally[state] += jobs;
    if (state === 'queued') (this.#counters.get(tally.lane) as Counter).queued += jobs;
  }

  #of(lane: number): LaneTally {
    let counter = this.#counters.get(lane);
    if (counter === undefined) {
      counter = { queued: 0, present: null };
      this.#counters.set(lane, counter);
    }
    if (counter.present === null) {
      counter.present = {
        lane,
        slot: this.#slot,
        wait: null,
        run: null,
        failed: null,
        dirty: true,
        told: null,
        ...noCounts(),
      };
      this.#present.push(counter.present);
    }
    counter.present.dirty = true;
    return counter.present;
  }

  /** Begins a new stretch of time where the present one is over. Never an earlier one: its rows are this process's already. */
  #turn(): void {
    const now = this.#now();
    if (now <= this.#slot) return;
    this.#slot = now;
    if (this.#present.length === 0) return;
    for (const { lane } of this.#present) (this.#counters.get(lane) as Counter).present = null;
    this.#past.push(this.#present);
    this.#present = [];
    if (this.#past.length > most_slots) this.#past.shift();
  }

  /** Of a process that stood still, or could not write for long, the rows are not touched again: what is new goes elsewhere. */
  #leaveFolded(): void {
    const before = this.#now() - folded_ms;
    this.#past = this.#past.map((rows) =>
      rows.filter((row) => {
        if (row.told === null || row.slot >= before) return true;
        if (row.dirty) this.#carry(row, row.told);
        return false;
      }),
    );
  }

  /** Adds what a row has and has not told to the present one of its lane. */
  #carry(row: LaneTally, told: TallyRow): void {
    const present = this.#of(row.lane);
    for (const name of [...happenings, ...keptStates]) present[name] += row[name] - told[name];
    for (const name of ['wait', 'run', 'failed'] as const) {
      const counted = row[name];
      if (counted === null) continue;
      const sum = present[name] ?? emptyHistogram();
      addTo(sum, sparse(counted));
      addTo(sum, told[name], -1);
      present[name] = sum;
    }
  }

  #dirty(): LaneTally[] {
    const rows: LaneTally[] = [];
    for (const slot of [...this.#past, this.#present]) {
      for (const row of slot) {
        if (row.dirty) rows.push(row);
        if (rows.length === most_rows) return rows;
      }
    }
    return rows;
  }

  #setTime(now_ms: number): void {
    this.#offset = now_ms - performance.now();
  }

  /** The beginning of the stretch that is now. */
  #now(): number {
    return Math.floor((performance.now() + this.#offset) / slot_ms) * slot_ms;
  }
}

function rowOf({ slot, dirty: _, told: __, wait, run, failed, ...counts }: LaneTally): TallyRow {
  return {
    ...counts,
    slot: new Date(slot).toISOString(),
    wait: sparse(wait),
    run: sparse(run),
    failed: sparse(failed),
  };
}
