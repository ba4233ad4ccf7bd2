// When the slots of a schedule are.
// Next room: firing.ts.
import type { CadenceSpec } from './schedule.ts';
export interface Cadence {
  next(after: Date): Date | null;
}
export function cadenceOf(spec: CadenceSpec, _name: string): Cadence {
  const ms = (spec.every_seconds ?? 1) * 1000;
  return { next: (after) => new Date((Math.floor(after.getTime() / ms) + 1) * ms) };
}
export function dueOf(slot: Date, _jitter: number, _name: string): Date {
  return slot;
}
export async function outstanding(
  c: Cadence,
  after: Date,
  until: Date,
  most: number,
): Promise<{ slots: Date[]; folded: { from: Date; through: Date; count: number | null } | null }> {
  const slots: Date[] = [];
  for (let s = c.next(after); s !== null && s <= until; s = c.next(s)) slots.push(s);
  if (slots.length <= most) return { slots, folded: null };
  const old = slots.slice(0, slots.length - most);
  return {
    slots: slots.slice(-most),
    folded: { from: old[0] as Date, through: old.at(-1) as Date, count: old.length },
  };
}
