// Rates from counters that only grow: how much came and went lately.
// Invariant: a rate is taken over as short a time as holds enough to be true, so it follows a change within seconds where
// much happens and does not flicker where little does.
// Next room: actions/statistics.ts, which reads the counters once a second.

/** The counters at a moment, in ms of the monotonic clock. */
export interface Sample {
  readonly at: number;
  readonly queued: number;
  readonly arrived: number;
  readonly started: number;
  readonly ended: number;
}

export type Counted = 'arrived' | 'started' | 'ended';

export interface Window {
  readonly from: Sample;
  readonly to: Sample;
  readonly seconds: number;
}

/** How long samples are of use, in ms. */
export const longest_window_ms = 60_000;
const windows_ms = [5_000, 15_000, longest_window_ms];
/** So many are told from chance to a fifth. */
const enough = 30;
/** So long after it came a job is told of by whoever took it in. */
const told_ms = 2_000;

/**
 * The samples between which a rate is taken: over 5, 15 or 60 s, the shortest time in which enough was counted, or would have
 * been at the rate of the whole minute: that much has stopped is told as soon as that much has begun.
 */
export function windowOf(samples: readonly Sample[], counted: Counted): Window | null {
  const to = samples.at(-1);
  if (to === undefined) return null;
  const windows = windows_ms.flatMap((ms) => {
    const from = newestBefore(samples, to.at - ms);
    return from === undefined || from === to ? [] : [{ from, to, seconds: (to.at - from.at) / 1_000 }];
  });
  const longest = windows.at(-1);
  if (longest === undefined) return null;
  const usual = (longest.to[counted] - longest.from[counted]) / longest.seconds;
  const says = ({ from, seconds }: Window) => Math.max(to[counted] - from[counted], usual * seconds);
  return windows.find((window) => says(window) >= enough) ?? longest;
}

/** What was counted each second in such a window. */
export function rateOf(samples: readonly Sample[], counted: Counted): number {
  const window = windowOf(samples, counted);
  return window === null ? 0 : (window.to[counted] - window.from[counted]) / window.seconds;
}

/**
 * At which rates ready jobs go out and come in, each second. After a queue was closed at `closed_at` only what it still takes
 * counts as coming in: what came before, told of or not, says nothing of that.
 */
export function drainOf(samples: readonly Sample[], closed_at: number): { out: number; in: number } {
  const window = windowOf(samples, 'started');
  if (window === null) return { out: 0, in: 0 };
  const { from, to, seconds } = window;
  const out = (to.started - from.started) / seconds;
  const since = samples.find(({ at }) => at >= closed_at + told_ms && at >= from.at) ?? to;
  const closed_seconds = (to.at - since.at) / 1_000;
  if (closed_seconds < 1) return { out, in: 0 };
  // Whatever becomes ready, retries and due jobs too.
  const came = to.queued - since.queued + to.started - since.started;
  return { out, in: Math.max(0, came / closed_seconds) };
}

/** Adds a sample and forgets those that are of no use any more: one beyond the longest window stays, to begin it. */
export function keep(samples: Sample[], sample: Sample): void {
  samples.push(sample);
  while (samples.length > 2 && (samples[1] as Sample).at <= sample.at - longest_window_ms) samples.shift();
}

/** The newest sample that is old enough; the oldest there is where the window is longer than what is known. */
function newestBefore(samples: readonly Sample[], at: number): Sample | undefined {
  return samples.findLast((sample) => sample.at <= at) ?? samples[0];
}
