// How long things took, without keeping each of them: counts in buckets whose bounds grow by the eighth root of two, so what
// is read off them is at most 9.1 % beside the truth, from 1 ms to 12 days.
// Invariant: the bounds never change, because stored counts name buckets by number.
// Next room: actions/tally.ts counts; actions/statistics.ts reads.

/** Buckets there are: the first holds what took less than 1 ms, the last what took longer than all others. */
export const buckets = 241;

const per_octave = 8;

/** Counts by bucket. */
export type Histogram = Uint32Array;

/** Counts that are not 0, as they are stored: a bucket, how often, the next bucket, how often, … */
export type Sparse = readonly number[];

export function emptyHistogram(): Histogram {
  return new Uint32Array(buckets);
}

/** The bucket of a time in ms. */
export function bucketOf(ms: number): number {
  if (!(ms >= 1)) return 0;
  return Math.min(buckets - 1, 1 + Math.floor(Math.log2(ms) * per_octave));
}

/** Where a bucket ends, in ms; the next one begins there. */
export function boundOf(bucket: number): number {
  return 2 ** (bucket / per_octave);
}

export function sparse(histogram: Histogram | null): number[] {
  const pairs: number[] = [];
  histogram?.forEach((count, bucket) => {
    if (count > 0) pairs.push(bucket, count);
  });
  return pairs;
}

/** Adds stored counts to a histogram, so many times. */
export function addTo(histogram: Histogram, counts: Sparse, times = 1): void {
  for (let i = 0; i + 1 < counts.length; i += 2) {
    const bucket = Math.min(counts[i] as number, buckets - 1);
    (histogram[bucket] as number) += (counts[i + 1] as number) * times;
  }
}

export function countOf(histogram: Histogram): number {
  return histogram.reduce((sum, count) => sum + count, 0);
}

/** The time in ms below which the share `q` of all lies; null: there is none. */
export function quantile(histogram: Histogram, q: number): number | null {
  const all = countOf(histogram);
  if (all === 0) return null;
  // The rank of the one asked for, as if all were sorted: its bucket, and how far in it.
  const rank = Math.max(1, Math.ceil(q * all));
  let below = 0;
  for (let bucket = 0; bucket < buckets; bucket++) {
    const count = histogram[bucket] as number;
    if (below + count >= rank) return within(bucket, (rank - below - 0.5) / count);
    below += count;
  }
  return null;
}

function within(bucket: number, share: number): number {
  if (bucket === 0) return share;
  return boundOf(bucket - 1 + share);
}
