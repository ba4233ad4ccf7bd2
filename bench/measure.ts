// Why this room exists: the machine is shared and its speed drifts, so a figure is a spread over paired rounds, and a
// comparison is a ratio taken within each round.
// Invariant: no mean of rates from different rounds is ever printed.
// Next room: figure.ts, the form in which they are told.

/** What was seen over the rounds. */
export interface Spread {
  median: number;
  min: number;
  max: number;
  rounds: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) throw new Error('a spread needs at least one round');
  const middle = sorted.length / 2;
  const median = ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle) - 1] as number)) / 2;
  return {
    median: sorted.length % 2 === 1 ? (sorted[Math.floor(middle)] as number) : median,
    min: sorted[0] as number,
    max: sorted.at(-1) as number,
    rounds: sorted.length,
  };
}

/** Round by round `above / below`. */
export function ratios(above: readonly number[], below: readonly number[]): number[] {
  if (above.length !== below.length) throw new Error('the rounds are not paired');
  return above.map((value, i) => value / (below[i] as number));
}

/** The contestants of a round in an order that alternates (A B C, C B A, A B C …), so that drift favours none. */
export function inTurn<T>(round: number, contestants: readonly T[]): readonly T[] {
  return round % 2 === 0 ? contestants : contestants.toReversed();
}

/** The value below which `share` of the sorted values lie. */
export function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
