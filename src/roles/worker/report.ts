// What a running job says of itself on its way: progress is written once a second at most, the latest value; a checkpoint at
// once. A report that finds the lease gone is how a job learns early that it was lost.
// Invariants: progress never fails the work; a checkpoint has been kept when its promise resolves; the last progress is
// written before the end is.
// Next room: actions/progress.ts.
import type { Progress } from '../../actions/progress.ts';
import type { Events } from '../../events.ts';
import type { ReportText } from './handlers.ts';
import { type Running, stopReasons, withRetries } from './run.ts';

export interface ReportOptions {
  progress: Progress;
  onError: (name: string, error: unknown) => void;
  /** A progress was no JSON or too large; told once of a start. */
  onDropped: (event: Events['progress.dropped']) => void;
}

const progress_gap_ms = 1_000;

/** The reports of one start, as JSON text. */
export class Reports {
  #running: Running;
  #options: ReportOptions;
  #latest: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #last = Number.NEGATIVE_INFINITY;
  #isClosed = false;
  #hasDropped = false;

  constructor(running: Running, options: ReportOptions) {
    this.#running = running;
    this.#options = options;
  }

  progress(report: ReportText): void {
    if (this.#isClosed) return;
    if ('unfit' in report) {
      this.#drop(report.unfit);
      return;
    }
    this.#latest = report.text;
    this.#schedule();
  }

  async checkpoint(text: string): Promise<void> {
    const { job } = this.#running;
    const stood = await withRetries(this.#running, () => this.#options.progress(job, { checkpoint: text }));
    if (stood) return;
    this.#running.stop('lost');
    throw new Error(stopReasons.lost);
  }

  /** Takes nothing more, and writes what is left: a promise only where there is something. */
  finish(): Promise<void> | undefined {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    if (this.#latest === undefined) return this.#writing;
    return (this.#writing ?? Promise.resolve()).then(() => {
      if (this.#latest !== undefined && this.#running.stopped !== 'lost') return this.#write();
    });
  }

  #drop(why: string): void {
    if (this.#hasDropped) return;
    this.#hasDropped = true;
    const { job_id, queue, type, epoch } = this.#running.job;
    this.#options.onDropped({ job_id, queue, type, epoch, why });
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#writing !== undefined || this.#isClosed) return;
    const wait = this.#last + progress_gap_ms - performance.now();
    if (wait <= 0) void this.#write();
    else this.#timer = setTimeout(() => void this.#write(), wait);
  }

  #write(): Promise<void> {
    this.#timer = undefined;
    this.#last = performance.now();
    const progress = this.#latest as string;
    this.#latest = undefined;
    this.#writing = this.#options
      .progress(this.#running.job, { progress })
      .then(
        (stood) => {
          if (!stood) this.#running.stop('lost');
        },
        (error) => {
          // Only news: the next value, or none, will do.
          this.#options.onError('progress', error);
        },
      )
      .finally(() => {
        this.#writing = undefined;
        if (this.#latest !== undefined) this.#schedule();
      });
    return this.#writing;
  }
}
