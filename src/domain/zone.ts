// Time zones as the platform knows them (IANA names): the offset at a moment, and what to say to a name that is none.
// Invariant: an offset is that of the moment, so a local time is always moment + offset; ambiguity exists only the other way.
// Next room: domain/forecast.ts, which shows local times.
import { CadenceFault, shown } from './cadence-fault.ts';
import { Recent } from './recent.ts';

const clocks = new Recent(
  256,
  (timezone) =>
    new Intl.DateTimeFormat('en-US', {
      timeZone: timezone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    }),
);

/** How far the clocks of a zone are ahead of UTC at a moment, in ms. */
export function offsetAt(timezone: string, ms: number): number {
  const shownAs: Partial<Record<Intl.DateTimeFormatPartTypes, number>> = {};
  for (const { type, value } of clocks.of(timezone).formatToParts(ms)) shownAs[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = shownAs;
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(ms / 1000) * 1000;
}

/** Throws when the platform does not know a zone of this name. */
export function checkZone(timezone: string): void {
  // The platform takes offsets for zones; they would never change their clocks, which is what a zone is for.
  if (timezone.length <= 64 && /^[a-z]/i.test(timezone)) {
    try {
      clocks.of(timezone);
      return;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  const hint = nearestZone(timezone);
  const remedy =
    hint === null
      ? 'use an IANA name such as Europe/Berlin or UTC'
      : `use an IANA name; did you mean ${hint}?`;
  throw new CadenceFault('timezone', `timezone ${shown(timezone)} is not known; ${remedy}`);
}

// A city alone names its zone; otherwise a few wrong letters are forgiven.
function nearestZone(timezone: string): string | null {
  if (timezone.length > 64) return null;
  const wanted = timezone.toLowerCase().replaceAll(' ', '_');
  let nearest: string | null = null;
  let least = 4;
  for (const zone of Intl.supportedValuesOf('timeZone')) {
    const name = zone.toLowerCase();
    const steps =
      name.endsWith(`/${wanted}`) || wanted.endsWith(`/${name.split('/').at(-1)}`)
        ? 0.5
        : distance(name, wanted);
    if (steps < least) {
      least = steps;
      nearest = zone;
    }
  }
  return nearest;
}

/** How many letters must be put in, taken out or changed (Levenshtein). */
function distance(one: string, other: string): number {
  if (Math.abs(one.length - other.length) > 3) return 4;
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (let i = 1; i <= one.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= other.length; j += 1) {
      const change = (row[j - 1] ?? 0) + (one[i - 1] === other[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
