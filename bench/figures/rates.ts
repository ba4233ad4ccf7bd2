// Figure: what a job costs and how soon it starts at fixed rates, from a trickle to a good load, one job for each call.
// Invariants: an open loop; Errand is asked over HTTP, which its peers do not offer: they are asked by their libraries, in
// the process that pays for it.
// Next room: starts.ts, which takes one system at one rate.
import { calmRounds } from '../calm.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { inTurn, spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';
import { installPeers } from '../peers.ts';
import { type Starts, startsOf, type Way } from '../starts.ts';
import { setupOf } from '../systems.ts';

const ways = {
  errand: { system: 'errand', overHttp: true },
  'graphile-worker': { system: 'graphile-worker' },
  'pg-boss': { system: 'pg-boss' },
  BullMQ: { system: 'BullMQ' },
} as const satisfies Record<string, Way>;

type Name = keyof typeof ways;
const names = Object.keys(ways) as Name[];

const rates = [500, 1_500, 4_000] as const;
const time = { warm_up_seconds: 1, seconds: 8 };

// Systems that enqueue with a commit for each job do not reach every rate: what they cannot do is not asked of them.
const most: Partial<Record<Name, number>> = { 'graphile-worker': 500, 'pg-boss': 500 };

const runs = rates.flatMap((per_second) =>
  names.filter((name) => per_second <= (most[name] ?? per_second)).map((name) => ({ name, per_second })),
);

export async function steady(options: FigureOptions): Promise<Figure> {
  const { rounds = 3, ground, say } = options;
  await installPeers(say);
  let databases = 0;
  const { kept, others, remarks } = await calmRounds<Map<(typeof runs)[number], Starts>>({
    rounds,
    server: ground.pid,
    say,
    async take(round) {
      const all = new Map<(typeof runs)[number], Starts>();
      for (const run of inTurn(round, runs)) {
        const { name, per_second } = run;
        const starts = await startsOf(options, `rates_${databases++}`, ways[name], { per_second, ...time });
        all.set(run, starts);
        say(`rates: ${name} at ${per_second}/s, p50 ${starts.p50_ms.toFixed(1)} ms`);
      }
      return all;
    },
  });
  const line = (
    run: (typeof runs)[number],
    what: string,
    unit: string,
    pick: (starts: Starts) => number,
  ) => ({
    what: `${run.name} at ${run.per_second}/s: ${what}`,
    unit,
    spread: spreadOf(kept.map((round) => pick(round.get(run) as Starts))),
  });
  return {
    name: 'rates',
    title: 'Fixed rates of single jobs',
    goals: [],
    lines: [
      ...runs.flatMap((run) => [
        line(run, 'p50 of the start', 'ms', (starts) => starts.p50_ms),
        line(run, 'p99 of the start', 'ms', (starts) => starts.p99_ms),
        line(run, 'Node CPU', 'µs/job', (starts) => starts.node_us),
        line(run, 'CPU of the store', 'µs/job', (starts) => starts.store_us),
      ]),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      tails:
        'a new cluster has no used WAL segments yet: each further 16 MB are filled with zeros first, for which all commits wait about 60 ms',
      ...(await setupOf(names, options)),
      'API of Errand':
        'one process with the API, asked over HTTP on keep-alive connections, one with the worker',
      peers: 'one process that enqueues by the library of the system, one with the worker',
      'Node CPU': 'of the process that takes the job in and of the worker; not of the callers of the API',
      'seconds each round': `${time.seconds} after ${time.warm_up_seconds} of warm-up`,
      payload: `${payloadText.length} bytes`,
      clock: 'enqueue call until the first line of the handler',
    },
    checks: ['delivered = unique = enqueued for each system at each rate', ...remarks],
  };
}
