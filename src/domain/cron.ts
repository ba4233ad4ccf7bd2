// The text of a cron as people write it, made into six plain fields that croner reads: words (`@daily`), seconds that were
// left out, and `H`. Guards: what cannot be read is refused with the field that is wrong, its value and the remedy.
// Two names with the same `H` get different fields; the same name always the same ones (docs/cron.md).
// Next room: domain/calendar.ts, which walks the fields.
import { type CronOptions, CronPattern } from 'croner';
import { CadenceFault, shown } from './cadence-fault.ts';
import { Recent } from './recent.ts';
import { spreadOf } from './spread.ts';

/**
 * How croner reads the fields: exactly six, and lists or ranges of hours count as times of day, as in Vixie cron, so that
 * adding a second hour to a nightly schedule does not change what a clock change does to the first.
 */
export const reading = { mode: '6-part', fixedTimeRule: 'no-wildcard' } as const satisfies CronOptions;

const longest = 256;

const words: Readonly<Record<string, string>> = {
  '@hourly': '0 0 * * * *',
  '@daily': '0 0 0 * * *',
  '@midnight': '0 0 0 * * *',
  '@weekly': '0 0 0 * * 0',
  '@monthly': '0 0 0 1 * *',
  '@yearly': '0 0 0 1 1 *',
  '@annually': '0 0 0 1 1 *',
};

interface Field {
  readonly name: string;
  /** What a bare `H` chooses from: every value that exists whatever the month. */
  readonly first: number;
  readonly last: number;
  readonly remedy: string;
}

const forms = 'a list 1,2, a range 1-5, a step */2, H';
const fields: readonly Field[] = [
  { name: 'second', first: 0, last: 59, remedy: `use *, 0 to 59, ${forms}` },
  { name: 'minute', first: 0, last: 59, remedy: `use *, 0 to 59, ${forms}` },
  { name: 'hour', first: 0, last: 23, remedy: `use *, 0 to 23, ${forms}` },
  { name: 'day of month', first: 1, last: 28, remedy: `use *, 1 to 31, ${forms}, L, LW, 15W` },
  { name: 'month', first: 1, last: 12, remedy: `use *, 1 to 12, JAN to DEC, ${forms}` },
  {
    name: 'day of week',
    first: 0,
    last: 6,
    remedy: `use *, 0 to 7, SUN to SAT, ${forms}, FRI#2, FRIL, +FRI`,
  },
];

const readable = new Recent(16_384, (six) => {
  // Croner would take other white space for the end of a field.
  if (!/^[\x20-\x7e]*$/.test(six)) return false;
  try {
    new CronPattern(six, 'UTC', reading);
    return true;
  } catch {
    return false;
  }
});

/** The six fields of a cron, with every `H` of this name decided; throws what is wrong with it. */
export function fieldsOf(cron: string, name: string): string {
  if (cron.length > longest) {
    throw new CadenceFault('cron', `cron has ${cron.length} characters, use at most ${longest}`);
  }
  const plain = split(cron).map((text, at) => decided(text, at, name));
  const six = plain.join(' ');
  if (!readable.of(six)) throw faultyField(plain, cron);
  return six;
}

function split(cron: string): string[] {
  const text = cron.trim();
  if (text.startsWith('@')) return wordFields(text);
  const found = text.split(/[ \t]+/);
  if (found.length === 5) return ['0', ...found];
  if (found.length === 6) return found;
  const count = text === '' ? 0 : found.length;
  const remedy =
    count === 7
      ? 'leave out the year and use starts_at and ends_at'
      : 'use 5 (minute hour day-of-month month day-of-week), or 6 with the second first';
  throw new CadenceFault('cron', `cron ${shown(cron)} has ${count} fields; ${remedy}`);
}

function wordFields(text: string): string[] {
  const meant = words[text.toLowerCase()];
  if (meant !== undefined) return meant.split(' ');
  const remedy = /^@every\b/i.test(text) ? 'use every_seconds' : `use ${Object.keys(words).join(', ')}`;
  throw new CadenceFault('cron', `cron ${shown(text)} is no word that is known; ${remedy}`);
}

// H, H(0-7), H/15 or H(0-29)/10, alone or in a list; each place in the list is decided for itself.
function decided(text: string, at: number, name: string): string {
  const field = fields[at];
  if (field === undefined || !/h/i.test(text)) return text;
  return text
    .split(',')
    .map((item, place) => {
      const form = /^h(?:\((\d{1,2})-(\d{1,2})\))?(?:\/(\d{1,2}))?$/i.exec(item);
      if (form === null) return item;
      const [, from, to, step] = form;
      const first = from === undefined ? field.first : Number(from);
      const last = to === undefined ? field.last : Number(to);
      const every = step === undefined ? undefined : Number(step);
      const span = last - first + 1;
      if (first < field.first || last > mostOf(field) || span < 1 || every === 0 || (every ?? 1) > span) {
        throw new CadenceFault('cron', hashFault(field, item));
      }
      const start = first + spreadOf(`${name}\n${field.name}\n${place}`, every ?? span);
      return every === undefined ? `${start}` : `${start}-${last}/${every}`;
    })
    .join(',');
}

// A range that is written out may go to the end of a long month; whoever writes it means it.
function mostOf(field: Field): number {
  return field.name === 'day of month' ? 31 : field.last;
}

function hashFault(field: Field, item: string): string {
  const range = `${field.first}-${mostOf(field)}`;
  return `${field.name} of the cron is ${shown(item)}; use H, H(a-b) within ${range}, or H/n with n no longer than the range`;
}

// Croner counts days and months from 0 in what it says, so each field is tried alone and spoken of in our words.
function faultyField(plain: readonly string[], cron: string): CadenceFault {
  for (const [at, field] of fields.entries()) {
    const alone = plain.map((text, other) => (other === at ? text : '*')).join(' ');
    if (!readable.of(alone)) {
      return new CadenceFault(
        'cron',
        `${field.name} of the cron is ${shown(plain[at] ?? '')}; ${field.remedy}`,
      );
    }
  }
  return new CadenceFault('cron', `cron ${shown(cron)} cannot be read; simplify it, field by field`);
}
