// When a schedule has slots: by a cron in a time zone, or every so many seconds, between two bounds. Pure: whoever asks
// brings the moment.
// Invariants: a slot is known by its instant in UTC and appears once; slots grow; the same definition and name have the
// same slots in every process. What a clock change does is in docs/cron.md.
// Next room: domain/jitter.ts, when a slot is due; domain/forecast.ts, how slots look before they come.
import { CadenceFault, shown } from './cadence-fault.ts';
import { type Calendar, calendarOf, type Moments } from './calendar.ts';
import { fieldsOf } from './cron.ts';
import type { FoldedSlots } from './firing.ts';
import { Interval } from './interval.ts';
import type { CadenceSpec } from './schedule.ts';
import { checkZone } from './zone.ts';

/** The slots of a schedule. */
export interface Cadence {
  /** The first slot after a moment; null when there is none any more. */
  next(after: Date): Date | null;
  /** At most `count` slots in (after, until], the newest ones, in order of time. */
  newest(count: number, after: Date, until: Date): Date[];
  /** How many slots (after, until] has, to one beyond `most`. A generator: it yields where it may be left to wait. */
  count(after: Date, until: Date, most: number): Generator<undefined, number>;
  /** Whether the local time of a slot is one that was asked for; it is not where a clock change left that time out. */
  isNamed(slot: Date): boolean;
}

/** Slots that are due and not yet decided: the newest as they are, the older ones as a range and their number. */
export interface Outstanding {
  slots: Date[];
  folded: FoldedSlots | null;
}

const longestStep = 366 * 86_400;
/** A day before the years end that can be written down, so that the last slot has room for its jitter. */
const latest = Date.parse('9999-12-30T23:59:59.999Z');
const countedExactly = 10_000;

/** The cadence of a definition; `name` decides what `H` stands for. Throws a CadenceFault. */
export function cadenceOf(spec: CadenceSpec, name: string): Cadence {
  checkZone(spec.timezone);
  const from = momentOf('starts_at', spec.starts_at);
  const through = momentOf('ends_at', spec.ends_at);
  const cadence = new Bounded(
    momentsOf(spec, name, from ?? 0),
    from ?? Number.NEGATIVE_INFINITY,
    Math.min(through ?? latest, latest),
  );
  if (through !== null && cadence.isEmpty()) {
    const bound = from === null ? '' : ` and starts_at ${shown(spec.starts_at ?? '')}`;
    throw new CadenceFault(
      'ends_at',
      `no slot lies between ends_at ${shown(spec.ends_at ?? '')}${bound}; use a later ends_at`,
    );
  }
  return cadence;
}

/**
 * The slots in (after, until]: up to `most` as they are; of more, the newest `most`, and the older ones folded, their
 * count exact up to 10,000 and null beyond. A generator, because walking thousands takes a while: let something else
 * happen at each yield.
 */
export function* outstanding(
  cadence: Cadence,
  after: Date,
  until: Date,
  most: number,
): Generator<undefined, Outstanding> {
  const total = yield* cadence.count(after, until, most + countedExactly);
  const slots = yield* newestOf(cadence, Math.min(total, most), after, until);
  const [oldest] = slots;
  if (total <= most || oldest === undefined) return { slots, folded: null };
  const from = cadence.next(after) ?? oldest;
  const [through = from] = cadence.newest(1, after, new Date(oldest.getTime() - 1));
  const count = total - most;
  return { slots, folded: { from, through, count: count > countedExactly ? null : count } };
}

function* newestOf(cadence: Cadence, count: number, after: Date, until: Date): Generator<undefined, Date[]> {
  const slots: Date[] = [];
  for (let end = until; slots.length < count; ) {
    const older = cadence.newest(Math.min(32, count - slots.length), after, end);
    const [oldest] = older;
    if (oldest === undefined) break;
    slots.unshift(...older);
    end = new Date(oldest.getTime() - 1);
    if (slots.length < count) yield;
  }
  return slots;
}

function momentOf(member: 'starts_at' | 'ends_at', text: string | null): number | null {
  if (text === null) return null;
  const moment = Date.parse(text);
  if (Number.isNaN(moment)) {
    throw new CadenceFault(member, `${member} is ${shown(text)}; use a moment such as 2026-01-31T12:00:00Z`);
  }
  return moment;
}

function momentsOf(spec: CadenceSpec, name: string, anchor: number): Moments {
  const { cron, every_seconds: every } = spec;
  if (cron !== null && every === null) return firing(cron, calendarOf(fieldsOf(cron, name), spec.timezone));
  if (cron === null && every !== null) {
    if (Number.isInteger(every) && every >= 1 && every <= longestStep)
      return new Interval(every * 1000, anchor);
    throw new CadenceFault(
      'every_seconds',
      `every_seconds is ${every}; use a whole number from 1 to ${longestStep}`,
    );
  }
  const what =
    cron === null ? 'neither cron nor every_seconds is given' : 'cron and every_seconds are both given';
  throw new CadenceFault(cron === null ? 'cron' : 'every_seconds', `${what}; use exactly one of them`);
}

function firing(cron: string, calendar: Calendar): Calendar {
  if (calendar.fires) return calendar;
  throw new CadenceFault(
    'cron',
    `cron ${shown(cron)} never fires, because no month it names has such a day; change its day of month or its month`,
  );
}

class Bounded implements Cadence {
  readonly #moments: Moments;
  readonly #from: number;
  readonly #through: number;

  constructor(moments: Moments, from: number, through: number) {
    this.#moments = moments;
    this.#from = from;
    this.#through = through;
  }

  isEmpty(): boolean {
    const last = this.#moments.previous(this.#through + 1);
    return last === null || last < Math.max(0, this.#from);
  }

  next(after: Date): Date | null {
    const found = this.#moments.next(this.#after(after));
    return found === null || found > this.#through ? null : new Date(found);
  }

  newest(count: number, after: Date, until: Date): Date[] {
    const least = this.#after(after);
    const found: Date[] = [];
    let slot = this.#moments.previous(this.#until(until) + 1);
    while (found.length < count && slot !== null && slot > least) {
      found.push(new Date(slot));
      if (found.length < count) slot = this.#moments.previous(slot);
    }
    return found.reverse();
  }

  count(after: Date, until: Date, most: number): Generator<undefined, number> {
    return this.#moments.count(this.#after(after), this.#until(until), most);
  }

  isNamed(slot: Date): boolean {
    return this.#moments.isNamed(slot.getTime());
  }

  // Both bounds are slots if they are named.
  #after(after: Date): number {
    return Math.max(after.getTime(), this.#from - 1);
  }

  #until(until: Date): number {
    return Math.min(until.getTime(), this.#through);
  }
}
