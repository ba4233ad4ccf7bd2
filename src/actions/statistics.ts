// What can be said of a queue at any moment: how many jobs it holds, how fast they come and go, how long they wait and run.
// It is read from what all processes count, once a second and only of queues that somebody asks for, and kept in memory.
// Invariants: who asks again costs no statement; what is older than a few seconds is not told as the present.
// Next room: store/tallies.ts; guards.ts, which closes queues by it; estimate.ts; http/queue-statistics.ts.
import { type Counted, keep, rateOf, type Sample, windowOf } from '../domain/flow.ts';
import { addTo, countOf, emptyHistogram, type Histogram, quantile } from '../domain/histogram.ts';
import { isHeld, typeOf } from '../domain/options.ts';
import type { Pace } from '../domain/retry-after.ts';
import { type Depth, keptStates } from '../domain/tally.ts';
import type { Db } from '../store/db.ts';
import { type LaneDepth, readDepths, readRecent, type Stretch } from '../store/tallies.ts';
import type { Tally } from './tally.ts';

/** How long jobs took, in ms; null: none did within the window. */
export interface Times {
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  readonly count: number;
  readonly window_seconds: number;
}

/** What is told of a queue, or of a type in it. */
export interface Figures {
  readonly depth: Depth;
  readonly oldest_age_ms: number | null;
  /** Jobs that arrived, and jobs that ended, each second. */
  readonly rate_in: number;
  readonly rate_out: number;
  readonly rate_window_seconds: number;
  /** From when a job was due to its start. */
  readonly wait_ms: Times;
  /** From the start of an attempt to its end, by success or failure. */
  readonly run_ms: Times;
}

/** How long what is told of times reaches back, in s. */
export const times_seconds = 300;
const times_every_ms = 5_000;
/** A queue that nobody asked for so long is not read any more. */
const forget_ms = 30_000;
const reorder_ms = 250;
const fresh_ms = 1_500;
const stale_ms = 5_000;
/** Queues that are read each second at most: those that were asked for last. */
export const most_watched = 500;

/** Memory of one queue, or of one type in it. */
export class Line {
  depth = noDepth();
  oldest_age_ms: number | null = null;
  lanes: number[] = [];
  samples: Sample[] = [];
  waits = emptyHistogram();
  runs = emptyHistogram();
  /** What this process had changed of the queued when they were read. */
  ours = 0;
  #figures: Figures | null = null;
  #pace: Pace | null = null;

  get figures(): Figures {
    this.#figures ??= figuresOf(this);
    return this.#figures;
  }

  get pace(): Pace {
    this.#pace ??= {
      queued: this.depth.queued,
      arrivals: rateOf(this.samples, 'arrived'),
      starts: rateOf(this.samples, 'started'),
      run_p50_ms: quantile(this.runs, 0.5),
      run_p90_ms: quantile(this.runs, 0.9),
    };
    return this.#pace;
  }

  changed(): void {
    this.#figures = null;
    this.#pace = null;
  }
}

interface Watched {
  asked_at: number;
  read_at: number;
  times_at: number;
  whole: Line;
  types: Map<string, Line>;
  loading: Promise<void> | null;
}

export class Statistics {
  #db: Pick<Db, 'many'>;
  #tally: Pick<Tally, 'queuedBy'>;
  #watched = new Map<string, Watched>();

  constructor({ db, tally }: { db: Pick<Db, 'many'>; tally: Pick<Tally, 'queuedBy'> }) {
    this.#db = db;
    this.#tally = tally;
  }

  /** What is true of a queue now. */
  async of(queue: string): Promise<Figures> {
    return (await this.line(queue)).figures;
  }

  /** What is true of the jobs of one type in a queue now. */
  async ofType(queue: string, type: string): Promise<Figures> {
    return ((await this.#fresh(queue)).types.get(type) ?? new Line()).figures;
  }

  /** The same without waiting: undefined where it is not in memory, and read from now on. */
  peek(queue: string, type?: string): Line | undefined {
    const one = this.#ask(queue);
    if (performance.now() - one.read_at > stale_ms) return undefined;
    return type === undefined ? one.whole : one.types.get(type);
  }

  /** The memory of a queue, read where it is not up to date. */
  async line(queue: string): Promise<Line> {
    return (await this.#fresh(queue)).whole;
  }

  /** Ready jobs at this moment, those included that this process has just taken in. */
  queuedNow(line: Line): number {
    return Math.max(0, line.depth.queued + this.#oursOf(line.lanes) - line.ours);
  }

  /** Reads what is asked for; does nothing where nobody asks. */
  async refresh(): Promise<void> {
    const now = performance.now();
    for (const [queue, one] of this.#watched) {
      if (now - one.asked_at > forget_ms) this.#watched.delete(queue);
    }
    if (this.#watched.size > 0) await this.#load(new Map(this.#watched));
  }

  async #fresh(queue: string): Promise<Watched> {
    const one = this.#ask(queue);
    if (performance.now() - one.read_at > fresh_ms) {
      one.loading ??= this.#load(new Map([[queue, one]])).finally(() => {
        one.loading = null;
      });
      await one.loading;
    }
    return one;
  }

  #ask(queue: string): Watched {
    const now = performance.now();
    const one = this.#watched.get(queue) ?? blank();
    // Answers to submits ask too: once in a while is enough to be among the last.
    if (now - one.asked_at > reorder_ms) {
      one.asked_at = now;
      this.#watched.delete(queue);
      this.#watched.set(queue, one);
      if (this.#watched.size > most_watched) this.#forgetFirst();
    }
    return one;
  }

  /** The one that was not asked for the longest gives way to who asks now. */
  #forgetFirst(): void {
    const [first] = this.#watched.keys();
    if (first !== undefined) this.#watched.delete(first);
  }

  async #load(queues: ReadonlyMap<string, Watched>): Promise<void> {
    const at = performance.now();
    const depths = Map.groupBy(await this.#db.many(readDepths, [[...queues.keys()]]), ({ queue }) => queue);
    const due = [...queues].filter(([, one]) => at - one.times_at >= times_every_ms).map(([queue]) => queue);
    const stretches = due.length === 0 ? [] : await this.#db.many(readRecent, [due, times_seconds]);
    const recent = Map.groupBy(stretches, ({ queue }) => queue);
    for (const [queue, one] of queues) {
      // A later look was faster.
      if (at <= one.read_at) continue;
      // What an operation holds back stands in no line.
      const lanes = (depths.get(queue) ?? []).filter(({ route }) => !isHeld(route));
      const happened = (recent.get(queue) ?? []).filter(({ route }) => !isHeld(route));
      const isFirst = one.read_at === Number.NEGATIVE_INFINITY;
      const seed = isFirst ? happened : [];
      this.#fill(one.whole, lanes, seed, at);
      for (const [type, own] of Map.groupBy(lanes, ({ route }) => typeOf(route))) {
        const line = one.types.get(type) ?? this.#begin(isFirst ? null : one.read_at);
        one.types.set(type, line);
        this.#fill(
          line,
          own,
          seed.filter(({ route }) => typeOf(route) === type),
          at,
        );
      }
      if (due.includes(queue)) {
        one.times_at = at;
        fillTimes(one.whole, happened);
        for (const [type, line] of one.types) {
          fillTimes(
            line,
            happened.filter(({ route }) => typeOf(route) === type),
          );
        }
      }
      one.read_at = at;
    }
  }

  /** A type that was not there at the last reading had nothing then. */
  #begin(empty_at: number | null): Line {
    const line = new Line();
    if (empty_at !== null) keep(line.samples, { at: empty_at, queued: 0, arrived: 0, started: 0, ended: 0 });
    return line;
  }

  #fill(line: Line, rows: readonly LaneDepth[], seed: readonly Stretch[], at: number): void {
    const total = (name: keyof Depth | Counted) => rows.reduce((sum, row) => sum + row[name], 0);
    for (const state of keptStates) line.depth[state] = total(state);
    const ages = rows.flatMap(({ oldest_age_ms: age }) => (age === null ? [] : [age]));
    line.oldest_age_ms = ages.length === 0 ? null : Math.max(0, ...ages);
    line.lanes = rows.map(({ lane }) => lane);
    line.ours = this.#oursOf(line.lanes);
    const sample = {
      at,
      queued: line.depth.queued,
      arrived: total('arrived'),
      started: total('started'),
      ended: total('ended'),
    };
    for (const earlier of earlierThan(sample, seed)) keep(line.samples, earlier);
    keep(line.samples, sample);
    line.changed();
  }

  #oursOf(lanes: readonly number[]): number {
    let sum = 0;
    for (const lane of lanes) sum += this.#tally.queuedBy(lane);
    return sum;
  }
}

function blank(): Watched {
  return {
    asked_at: Number.NEGATIVE_INFINITY,
    read_at: Number.NEGATIVE_INFINITY,
    times_at: Number.NEGATIVE_INFINITY,
    whole: new Line(),
    types: new Map(),
    loading: null,
  };
}

/** What the counters must have been before this process read them first, by what is kept of the last minute. */
function earlierThan(present: Sample, stretches: readonly Stretch[]): Sample[] {
  const recent = stretches.filter(({ age }) => age < 70).toSorted((a, b) => a.age - b.age);
  let later = present;
  const samples: Sample[] = [];
  for (const [age, rows] of Map.groupBy(recent, (row) => row.age)) {
    const sum = (count: (row: Stretch) => number) => rows.reduce((all, row) => all + count(row), 0);
    later = {
      at: present.at - age * 1_000,
      queued: later.queued - sum((row) => row.queued),
      arrived: later.arrived - sum((row) => row.arrived),
      started: later.started - sum((row) => row.started),
      ended: later.ended - sum((row) => row.succeeded + row.died + row.cancelled + row.expired),
    };
    samples.unshift(later);
  }
  return samples;
}

function fillTimes(line: Line, stretches: readonly Stretch[]): void {
  line.waits = emptyHistogram();
  line.runs = emptyHistogram();
  for (const { wait, run, failed } of stretches) {
    addTo(line.waits, wait);
    addTo(line.runs, run);
    addTo(line.runs, failed);
  }
  line.changed();
}

function figuresOf(line: Line): Figures {
  const window = windowOf(line.samples, 'ended');
  const rate = (counted: Counted) =>
    window === null ? 0 : rounded((window.to[counted] - window.from[counted]) / window.seconds);
  return {
    depth: { ...line.depth },
    oldest_age_ms: line.oldest_age_ms === null ? null : Math.round(line.oldest_age_ms),
    rate_in: rate('arrived'),
    rate_out: rate('ended'),
    rate_window_seconds: window === null ? 0 : Math.round(window.seconds),
    wait_ms: timesOf(line.waits),
    run_ms: timesOf(line.runs),
  };
}

export function timesOf(histogram: Histogram, window_seconds = times_seconds): Times {
  const at = (q: number) => {
    const ms = quantile(histogram, q);
    return ms === null ? null : rounded(ms);
  };
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), count: countOf(histogram), window_seconds };
}

/** To three digits: more than the buckets know. */
function rounded(value: number): number {
  return Number(value.toPrecision(3));
}

function noDepth(): Depth {
  return { queued: 0, scheduled: 0, retrying: 0, running: 0, blocked: 0, dead: 0 };
}
