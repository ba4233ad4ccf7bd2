// The slots to come as people see them: local time, offset, and what a clock change made of them. Shown before a schedule
// ever fires, so that nobody has to find out in spring.
// Invariant: the slots are those that fire (domain/cadence.ts); this room only describes them.
// Next room: domain/zone.ts.
import type { Cadence } from './cadence.ts';
import { dueOf } from './jitter.ts';
import { offsetAt } from './zone.ts';

/** What a forecast needs of a schedule. */
export interface Forecastable {
  readonly cadence: Cadence;
  readonly timezone: string;
  readonly jitter_seconds: number;
  readonly name: string;
}

/**
 * What a clock change did to a slot. `gap`: the local time asked for does not exist that day, and the slot is the first
 * moment after the gap. `repeat_first`, `repeat_second`: this local time comes twice, and it is the first or second one.
 */
export type ForecastNote = 'gap' | 'repeat_first' | 'repeat_second';

/** One slot to come. */
export interface ForecastSlot {
  readonly slot: Date;
  readonly due_at: Date;
  /** Without an offset: `2026-03-29T03:00:00`. */
  readonly local: string;
  readonly utc_offset: string;
  readonly note: ForecastNote | null;
}

/** A moment at which the clocks of the zone change. */
export interface ClockChange {
  readonly at: Date;
  readonly from_offset: string;
  readonly to_offset: string;
}

export interface Forecast {
  readonly slots: readonly ForecastSlot[];
  /** Whether no slot comes after these. */
  readonly is_last: boolean;
  readonly clock_changes: readonly ClockChange[];
}

const minute = 60_000;
const day = 1_440 * minute;
const furthest = 10 * 366 * day;

/** The next `count` slots after a moment, and the clock changes up to the last of them (of the first ten years). */
export function forecastOf(schedule: Forecastable, count: number, after: Date): Forecast {
  const slots: ForecastSlot[] = [];
  let slot = schedule.cadence.next(after);
  while (slot !== null && slots.length < count) {
    slots.push(described(schedule, slot));
    slot = schedule.cadence.next(slot);
  }
  const last = slots.at(-1)?.slot ?? after;
  return { slots, is_last: slot === null, clock_changes: clockChanges(schedule.timezone, after, last) };
}

function described({ cadence, timezone, jitter_seconds, name }: Forecastable, slot: Date): ForecastSlot {
  const offset = offsetAt(timezone, slot.getTime());
  return {
    slot,
    due_at: dueOf(slot, jitter_seconds, name),
    local: new Date(slot.getTime() + offset).toISOString().replace(/(\.000)?Z$/, ''),
    utc_offset: offsetText(offset),
    note: cadence.isNamed(slot) ? repeatNote(timezone, slot.getTime(), offset) : 'gap',
  };
}

// The same local time with the offset of the day before or after: if that offset is in force there, it comes twice.
function repeatNote(timezone: string, slot: number, offset: number): ForecastNote | null {
  for (const near of [slot - day, slot + day]) {
    const otherOffset = offsetAt(timezone, near);
    const other = slot + offset - otherOffset;
    if (other !== slot && offsetAt(timezone, other) === otherOffset) {
      return slot < other ? 'repeat_first' : 'repeat_second';
    }
  }
  return null;
}

// Steps of a week find every change: two that cancel each other have never been closer than a month.
function clockChanges(timezone: string, after: Date, through: Date): ClockChange[] {
  const changes: ClockChange[] = [];
  const end = Math.min(through.getTime(), after.getTime() + furthest);
  let from = after.getTime();
  let before = offsetAt(timezone, from);
  while (from < end) {
    const to = Math.min(from + 7 * day, end);
    const now = offsetAt(timezone, to);
    if (now !== before) {
      const at = new Date(changeBetween(timezone, from, to, before));
      changes.push({ at, from_offset: offsetText(before), to_offset: offsetText(now) });
    }
    [from, before] = [to, now];
  }
  return changes;
}

function changeBetween(timezone: string, from: number, to: number, before: number): number {
  let [earlier, later] = [from, to];
  while (later - earlier > 1) {
    const middle = Math.floor((earlier + later) / 2);
    if (offsetAt(timezone, middle) === before) earlier = middle;
    else later = middle;
  }
  return later;
}

// Offsets before the railways had seconds; they are shown where there are any.
function offsetText(offset: number): string {
  const [hours = '', minutes = '', seconds = ''] = new Date(Math.abs(offset))
    .toISOString()
    .slice(11, 19)
    .split(':');
  return `${offset < 0 ? '-' : '+'}${hours}:${minutes}${seconds === '00' ? '' : `:${seconds}`}`;
}
