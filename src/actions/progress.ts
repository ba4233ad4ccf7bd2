// Reports how far a start has come: progress for whoever watches the job, checkpoints for its next start. Reports that come
// while others are written go into the next statement together, the latest of each start.
// Invariants: what is answered true is committed, or was overtaken by a later report of the same start; reports of one
// process are written in the order they came.
// Next room: store/progress.ts.
import type { Start } from '../domain/start.ts';
import type { EventBus } from '../events.ts';
import type { Pool } from '../store/db.ts';
import { Flush } from '../store/flush.ts';
import { holder_patience_ms } from '../store/line.ts';
import { type Report, writeReports } from '../store/progress.ts';

/** What is reported, as JSON text. */
export interface Reached {
  progress?: string;
  checkpoint?: string;
}

/** Writes a report of a start; false = its lease is lost or it has ended. */
export type Progress = (start: Start, reached: Reached) => Promise<boolean>;

// A holder that reports in a tight loop updates one row again and again: the gap bounds how often.
const gap_ms = 20;

export function progressing(options: { db: Pool; events: EventBus }): Progress {
  const { db, events } = options;
  const flush = new Flush<Report, boolean>({
    run: async (reports) => {
      const latest = latestOf(reports);
      const written = await writeReports(db, [...latest.values()]);
      for (const job_id of written) events.emit('job.progressed', { job_id });
      return reports.map(
        ({ start }) => written.has(start.job_id) && latest.get(start.job_id)?.start.epoch === start.epoch,
      );
    },
    // Two at once could commit in the wrong order.
    inFlight: 1,
    max: 500,
    gapMs: gap_ms,
    maxWaiting: 10_000,
    patienceMs: holder_patience_ms,
  });
  return (start, { progress = null, checkpoint = null }) => flush.add({ start, progress, checkpoint });
}

/** One report for each job: of its latest start, the latest value of each. */
function latestOf(reports: readonly Report[]): Map<string, Report> {
  const latest = new Map<string, Report>();
  for (const report of reports) {
    const { job_id, epoch } = report.start;
    const before = latest.get(job_id);
    if (before === undefined || before.start.epoch < epoch) latest.set(job_id, report);
    else if (before.start.epoch === epoch) {
      latest.set(job_id, {
        start: report.start,
        progress: report.progress ?? before.progress,
        checkpoint: report.checkpoint ?? before.checkpoint,
      });
    }
  }
  return latest;
}
