// Counters and histograms for what happens with every request and every job. prom-client builds and validates a text of the
// labels for each observation; here the values of the labels lead through maps to the series, which then costs an addition.
// Invariant: what is served of them reads as if prom-client had counted.
// Next room: metrics.ts, which declares them beside those that are rare.
import type { Metric, Registry } from 'prom-client';

export interface FamilyOptions<Label extends string> {
  name: string;
  help: string;
  labelNames: readonly Label[];
}

/** One sample of a scrape, as prom-client takes it. */
interface Sample {
  metricName: string;
  labels: Record<string, string | number>;
  value: number;
}

/** All series of a name. */
abstract class Family<Series, Label extends string> {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly Label[];
  abstract readonly type: 'counter' | 'histogram';
  #known: Branch = new Map();
  #all: { labels: Record<string, string | number>; series: Series }[] = [];

  constructor(registry: Registry, { name, help, labelNames }: FamilyOptions<Label>) {
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
    // What a registry asks of a metric is a name and `get`; its type asks for the class.
    registry.registerMetric(this as unknown as Metric);
  }

  /** The series of these values, in the order of the labels. */
  of(...values: readonly (string | number)[]): Series {
    let branch = this.#known;
    for (const value of values) {
      let next = branch.get(value);
      if (next === undefined) {
        next = new Map();
        branch.set(value, next);
      }
      branch = next as Branch;
    }
    return (branch.get(leaf) as Series | undefined) ?? this.#begin(branch, values);
  }

  /** What prom-client asks for at a scrape. */
  get() {
    const values = this.#all.flatMap(({ labels, series }) => this.samples(labels, series));
    return { name: this.name, help: this.help, type: this.type, aggregator: 'sum', values };
  }

  protected abstract begin(): Series;
  protected abstract samples(labels: Sample['labels'], series: Series): Sample[];

  #begin(branch: Branch, values: readonly (string | number)[]): Series {
    const series = this.begin();
    branch.set(leaf, series);
    this.#all.push({
      labels: Object.fromEntries(this.labelNames.map((label, i) => [label, values[i] ?? ''])),
      series,
    });
    return series;
  }
}

const leaf = Symbol('series');
/** Leads by the value of one label to the branch of the next, by `leaf` to the series. */
type Branch = Map<string | number | typeof leaf, unknown>;

export interface Count {
  value: number;
}

/** A counter: `of(…).value += 1`. */
export class Counts<Label extends string> extends Family<Count, Label> {
  readonly type = 'counter';

  protected begin(): Count {
    return { value: 0 };
  }

  protected samples(labels: Sample['labels'], { value }: Count): Sample[] {
    return [{ metricName: this.name, labels, value }];
  }
}

/** How often each bucket was hit, and the sum of all that was observed. */
export class Distribution {
  readonly #bounds: readonly number[];
  /** By the place of its bound; the last one holds what is above all. */
  readonly hits: number[];
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.hits = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    let at = 0;
    while (at < this.#bounds.length && value > (this.#bounds[at] as number)) at++;
    (this.hits[at] as number)++;
    this.sum += value;
  }
}

/** A histogram: `of(…).observe(seconds)`. */
export class Distributions<Label extends string> extends Family<Distribution, Label> {
  readonly type = 'histogram';
  readonly #bounds: readonly number[];

  constructor(registry: Registry, options: FamilyOptions<Label> & { buckets: readonly number[] }) {
    super(registry, options);
    this.#bounds = options.buckets;
  }

  protected begin(): Distribution {
    return new Distribution(this.#bounds);
  }

  protected samples(labels: Sample['labels'], { hits, sum }: Distribution): Sample[] {
    let count = 0;
    const buckets = hits.map((n, at) => {
      count += n;
      const le = this.#bounds[at] ?? '+Inf';
      return { metricName: `${this.name}_bucket`, labels: { le, ...labels }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${this.name}_sum`, labels, value: sum },
      { metricName: `${this.name}_count`, labels, value: count },
    ];
  }
}
