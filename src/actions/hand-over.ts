// A target takes a job over, and ends it by its lease later. Until then the job shares a lease row with others that were
// pushed at the same time, and the pusher keeps that row; from then on it has a row of its own, which nobody else keeps.
// Invariants: a start that has ended or was lost is not handed over; the lease id a target was sent holds for its start
// wherever that stands; a target never keeps the jobs of others.
// Next room: store/apart.ts.
import type { OpenLeases } from '../domain/open-leases.ts';
import type { Start } from '../domain/start.ts';
import { deleteEnded, findStanding, takeApart } from '../store/apart.ts';
import type { Pool } from '../store/db.ts';
import { Flush } from '../store/flush.ts';
import { holder_patience_ms } from '../store/line.ts';
import { numbers } from '../store/sql.ts';
import type { Beat, Heartbeat } from './heartbeat.ts';

/** A start under the lease it stands in now. */
export interface Standing {
  start: Start;
  /** Whether its lease is one of several jobs: then the request to its target is still open. */
  shared: boolean;
  until: Date;
  cancel_requested: boolean;
}

export interface HandOver {
  /** Gives a start a lease of its own for `seconds`; null = it has ended or was lost. */
  handOver(start: Start, seconds: number): Promise<Beat | null>;
  /** Finds the lease of a start that may have been handed over; null = it has none any more. */
  standing(start: Start): Promise<Standing | null>;
}

export function handingOver(options: { db: Pool; open: OpenLeases; heartbeat: Heartbeat }): HandOver {
  const { db, open, heartbeat } = options;
  const bounds = { inFlight: 2, max: 500, gapMs: 0, maxWaiting: 50_000, patienceMs: holder_patience_ms };

  const apart = new Flush<Start, string | null>({
    ...bounds,
    run: async (starts) => {
      const rows = await db.many(takeApart, asked(starts));
      const leases = new Map(rows.map((row) => [row.job_id, row.lease]));
      return starts.map(({ job_id }) => leases.get(job_id) ?? null);
    },
  });

  const standing = new Flush<Start, Standing | null>({
    ...bounds,
    run: async (starts) => {
      const rows = await db.many(findStanding, asked(starts));
      const found = new Map(rows.map(({ job_id, epoch, ...row }) => [`${job_id}.${epoch}`, row]));
      return starts.map((start) => {
        const row = found.get(`${start.job_id}.${start.epoch}`);
        if (row === undefined) return null;
        const { lease, ...rest } = row;
        return { start: { ...start, lease }, ...rest };
      });
    },
  });

  return {
    async handOver(start, seconds) {
      // Its row may have been taken apart for a neighbour since it was found there: a second look finds it.
      const lease = (await apart.add(start)) ?? (await apart.add(start));
      // The row it left may hold nothing any more but jobs that have ended: no settle would delete that.
      const left = open.ended([start]).filter((one) => one !== lease);
      if (left.length > 0) await db.many(deleteEnded, [left]);
      return lease === null ? null : heartbeat({ ...start, lease }, seconds);
    },
    standing: (start) => standing.add(start),
  };
}

function asked(starts: readonly Start[]): [jobs: string, epochs: string] {
  return [numbers(starts.map((start) => start.job_id)), numbers(starts.map((start) => start.epoch))];
}
