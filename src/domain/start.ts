// One start of a job: the facts everyone who ends it must bring. They travel in memory for handlers and, sealed, in the
// lease id for pull workers, so that settling needs no read.
// Next room: lease-id.ts, which seals it.

/** The facts of one start of a job; `epoch` is its fencing number. */
export interface Start {
  lease: string;
  job_id: string;
  epoch: number;
  attempt: number;
  lane: number;
  prio: number;
  owner: number;
  started_at: Date;
  /** Whether somebody is to be told of the job's end: settling it then takes a transaction. */
  callback: boolean;
}

/** Largest progress and largest checkpoint of a start, in bytes. */
export const most_report_bytes = 64 * 1024;

/** How long a snooze may be, in seconds: never so short that a job which asks for nothing else keeps a worker busy. */
export const least_snooze_seconds = 1;
export const most_snooze_seconds = 86_400;
