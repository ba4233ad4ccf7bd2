// Why this room exists: what should have fired is said by a library that Errand does not use.
// Next room: ledger-books.ts, which compares.
import { CronExpressionParser } from 'cron-parser';

/** A schedule of a drill. */
export interface Plan {
  name: string;
  cron: string;
  timezone: string;
  /** Of its jobs. */
  queue?: string;
  /** Its first slot may be here; absent: with all others. */
  from?: Date;
}

export const zones = ['Europe/Berlin', 'Asia/Kolkata', 'America/New_York'] as const;

/** Schedules for each second and for each minute, the zones in turn; those of the minutes spread over the seconds. */
export function plans(each_second: number, each_minute: number): Plan[] {
  const zoneOf = (n: number) => zones[n % zones.length] as string;
  return [
    ...Array.from({ length: each_second }, (_, n) => ({
      name: `second-${n}`,
      cron: '* * * * * *',
      timezone: zoneOf(n),
    })),
    ...Array.from({ length: each_minute }, (_, n) => ({
      name: `minute-${n}`,
      cron: `${(n * 7) % 60} * * * * *`,
      timezone: zoneOf(n),
    })),
  ];
}

/** The instants of a plan from one moment to another, both included, as ISO texts. */
export function slotsOf({ cron, timezone, from }: Plan, start: Date, to: Date): Set<string> {
  const expression = CronExpressionParser.parse(cron, {
    currentDate: new Date((from ?? start).getTime() - 1),
    endDate: to,
    tz: timezone,
  });
  const slots = new Set<string>();
  while (expression.hasNext()) slots.add(expression.next().toDate().toISOString());
  return slots;
}
