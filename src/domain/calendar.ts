// The moments that six fields name in a time zone, found by croner and remembered: schedules share few patterns, and all
// of them ask around now. Moments are ms since 1970 in here.
// Guards: `next` is later than what it was asked for, always, so nobody who walks can turn in a circle; going back finds
// the same moments as going on; nothing grows without bound (a parsed pattern of croner's takes 83 kB).
// Next room: domain/cadence.ts, which bounds it by starts_at and ends_at.
import { Cron, CronPattern } from 'croner';
import { reading } from './cron.ts';
import { Recent } from './recent.ts';
import { offsetAt } from './zone.ts';

/** Moments without end in both directions. */
export interface Moments {
  /** The first one later than a moment. */
  next(after: number): number | null;
  /** The last one before a moment. */
  previous(before: number): number | null;
  /** Counts those in (after, until], to one beyond `most`; whoever drives it may do something else at each yield. */
  count(after: number, until: number, most: number): Generator<undefined, number>;
  /** Whether the local time of one of them is what was asked for, not what a clock change made of it. */
  isNamed(moment: number): boolean;
}

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

const patterns = new Recent(256, (key) => {
  const [timezone, fields] = apart(key);
  return new Cron(fields, { ...reading, timezone, paused: true });
});

const calendars = new Recent(16_384, (key) => {
  const [timezone, fields] = apart(key);
  return new Calendar(key, timezone, fields);
});

/** The calendar of six fields (domain/cron.ts) in a time zone that is known to exist. */
export function calendarOf(fields: string, timezone: string): Calendar {
  return calendars.of(`${timezone} ${fields}`);
}

function apart(key: string): [timezone: string, fields: string] {
  const at = key.indexOf(' ');
  return [key.slice(0, at), key.slice(at + 1)];
}

/** What croner knows of one pattern, and what was found lately. */
export class Calendar implements Moments {
  readonly #key: string;
  readonly #timezone: string;
  /** How many moments a day, an hour and a minute have that match at all and see no clock change. */
  readonly #units: readonly { length: number; moments: number }[];
  /** How far from a clock change it may still show: moments of a gap come after it, and a second pass is empty. */
  readonly #margin: number;
  /** Consecutive moments; none lies between `#since` and the first of them. */
  #run: number[] = [];
  #since = 0;
  #fires: boolean | undefined;

  constructor(key: string, timezone: string, fields: string) {
    const pattern = new CronPattern(fields, timezone, reading);
    const [seconds, minutes, hours] = [pattern.second, pattern.minute, pattern.hour].map(
      (values) => values.filter((value) => value !== 0).length,
    ) as [number, number, number];
    this.#key = key;
    this.#timezone = timezone;
    // Every month has days of the week; only days of the month can be missing.
    if (pattern.starDOM) this.#fires = true;
    this.#margin = pattern.isFixedTime ? 3 * hour : 0;
    this.#units = [
      { length: day, moments: seconds * minutes * hours },
      { length: hour, moments: seconds * minutes },
      { length: minute, moments: seconds },
    ];
  }

  /** Whether there is any moment at all; not for 30 February. */
  get fires(): boolean {
    this.#fires ??= this.seek(0) !== null;
    return this.#fires;
  }

  next(after: number): number | null {
    const last = this.#run.at(-1);
    if (last !== undefined && this.#since <= after && after < last) {
      return this.#run[firstAbove(this.#run, after)] ?? null;
    }
    const found = this.seek(after);
    if (found !== null) this.#remember(after, found, last);
    return found;
  }

  /** As `next`, for moments far from where everybody asks: leaves what is remembered alone. */
  seek(after: number): number | null {
    const found = patterns.of(this.#key).nextRun(new Date(after))?.getTime() ?? null;
    if (found !== null && found <= after) throw new Error(`cron ${this.#key} does not get beyond ${after}`);
    return found;
  }

  previous(before: number): number | null {
    const last = this.#run.at(-1);
    if (last !== undefined && this.#since < before && before <= last) {
      const found = this.#run[firstAbove(this.#run, before - 1) - 1];
      if (found !== undefined) return found;
    }
    const [found] = patterns.of(this.#key).previousRuns(1, new Date(before));
    return found?.getTime() ?? null;
  }

  *count(after: number, until: number, most: number): Generator<undefined, number> {
    let counted = 0;
    let at = after;
    for (let steps = 1; counted <= most; steps += 1) {
      const slot = this.next(at);
      if (slot === null || slot > until) return counted;
      // Few slots are the rule, and walking those is cheaper than asking the zone.
      const whole = steps > 16 ? this.#wholeUnit(slot, at, until) : null;
      counted += whole?.moments ?? 1;
      at = whole?.through ?? slot;
      if (steps % 32 === 0) yield;
    }
    return most + 1;
  }

  isNamed(moment: number): boolean {
    return patterns.of(this.#key).match(new Date(moment));
  }

  #remember(after: number, found: number, last: number | undefined): void {
    if (after !== last) {
      this.#since = after;
      this.#run = [found];
      return;
    }
    this.#run.push(found);
    if (this.#run.length > 64) this.#since = this.#run.splice(0, 32).at(-1) ?? this.#since;
  }

  // A whole local day, hour or minute that begins after `at` and sees no clock change has as many moments as its kind has.
  #wholeUnit(slot: number, at: number, until: number): { moments: number; through: number } | null {
    let offset: number | undefined;
    for (const { length, moments } of this.#units) {
      if (until - at < length) continue;
      offset ??= offsetAt(this.#timezone, slot);
      const start = Math.floor((slot + offset) / length) * length - offset;
      const through = start + length - 1;
      if (start <= at || through > until) continue;
      if (offsetAt(this.#timezone, start - this.#margin) !== offset) continue;
      if (offsetAt(this.#timezone, through + this.#margin) === offset) return { moments, through };
    }
    return null;
  }
}

/** Where the first number above a limit stands in a growing list. */
function firstAbove(numbers: readonly number[], limit: number): number {
  let [from, to] = [0, numbers.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((numbers[middle] ?? 0) > limit) to = middle;
    else from = middle + 1;
  }
  return from;
}
