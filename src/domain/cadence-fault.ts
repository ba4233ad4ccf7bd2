// What is wrong with the times of a schedule, said of one member of its definition, so that a caller can be pointed at it.
// Invariant: `detail` is public: the thing, its value and the remedy.
// Next room: domain/cadence.ts, which throws it; whoever saves a schedule turns it into a fault of the body.

/** The members of a definition that say when it fires. */
export type CadenceMember =
  | 'cron'
  | 'timezone'
  | 'every_seconds'
  | 'starts_at'
  | 'ends_at'
  | 'jitter_seconds';

/** A cadence that cannot be: which member says so, and why. */
export class CadenceFault extends RangeError {
  readonly member: CadenceMember;
  readonly detail: string;

  constructor(member: CadenceMember, detail: string) {
    super(`${member}: ${detail}`);
    this.name = 'CadenceFault';
    this.member = member;
    this.detail = detail;
  }
}

/** A value as faults show it: quoted, and cut where it is long. */
export function shown(value: string): string {
  return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
}
