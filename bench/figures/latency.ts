// Figure: how soon a job starts in another process on a system that is otherwise idle: 50 jobs a second, one by one.
// Invariants: every system enqueues by its own library and runs alone, in a database of its own; the order alternates; the
// clock runs from the enqueue call to the first line of the handler.
// Next room: starts.ts, which takes one system.
import { calmRounds, type Rounds } from '../calm.ts';
import type { Figure, FigureOptions, Profile } from '../figure.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';
import { installPeers } from '../peers.ts';
import { type Starts, startsOf, type Way } from '../starts.ts';
import { setupOf } from '../systems.ts';

const ways = {
  errand: { system: 'errand' },
  'graphile-worker': { system: 'graphile-worker' },
  'pg-boss': { system: 'pg-boss' },
  'pg-boss, polling': { system: 'pg-boss', words: ['polling'] },
  BullMQ: { system: 'BullMQ' },
} as const satisfies Record<string, Way>;

type Name = keyof typeof ways;
const names = Object.keys(ways) as Name[];
const postgresPeers = ['graphile-worker', 'pg-boss', 'pg-boss, polling'] as const satisfies Name[];

const times: Record<Profile, { rounds: number; seconds: number }> = {
  short: { rounds: 3, seconds: 5 },
  long: { rounds: 5, seconds: 20 },
};
const per_second = 50;
const warm_up_seconds = 1;

type Round = Record<Name, Starts>;

export async function latency(options: FigureOptions): Promise<Figure> {
  const { ground, profile, say } = options;
  await installPeers(say);
  const { rounds = times[profile].rounds } = options;
  const { seconds } = times[profile];
  let databases = 0;
  const taken = await calmRounds<Round>({
    rounds,
    server: ground.pid,
    say,
    async take(round) {
      const all: Partial<Round> = {};
      for (const name of inTurn(round, names)) {
        const trickle = { per_second, warm_up_seconds, seconds };
        all[name] = await startsOf(options, `latency_${databases++}`, ways[name], trickle);
      }
      say(`latency: ${names.map((name) => `${name} ${all[name]?.p50_ms.toFixed(1)}`).join(', ')} ms`);
      return all as Round;
    },
  });
  const setup = await setupOf(['errand', 'graphile-worker', 'pg-boss', 'BullMQ'], options);
  return figureOf(taken, seconds, setup);
}

function figureOf(
  { kept, others, remarks }: Rounds<Round>,
  seconds: number,
  setup: Record<string, string>,
): Figure {
  const each = (name: Name, pick: (starts: Starts) => number) => kept.map((round) => pick(round[name]));
  const p50 = (name: Name) => each(name, (starts) => starts.p50_ms);
  const p99 = (name: Name) => each(name, (starts) => starts.p99_ms);
  const best = kept.map((round) => Math.min(...postgresPeers.map((name) => round[name].p99_ms)));
  const line = (name: Name, what: string, unit: string, pick: (starts: Starts) => number) => ({
    what: `${name}: ${what}`,
    unit,
    spread: spreadOf(each(name, pick)),
  });
  return {
    name: 'latency',
    title: `Start latency at ${per_second} jobs/s, another process, idle system`,
    goals: [
      {
        what: 'start latency, p50',
        against: 'BullMQ',
        ...{ at: 'most', value: 1.5, stretch: 1, unit: '×' },
        seen: spreadOf(ratios(p50('errand'), p50('BullMQ'))),
        short:
          'two commits that wait for the disk, of the job and of its lease, with a NOTIFY between them: 0.8 ms where one follows on the other, and on an idle machine a wake-up of each process on the way; the Redis of BullMQ writes nothing to disk',
      },
      {
        what: 'start latency, p99',
        against: 'the best Postgres peer',
        ...{ at: 'most', value: 1, unit: '×' },
        seen: spreadOf(ratios(p99('errand'), best)),
        short:
          'the ten slowest of a thousand starts decide, and the rounds of one hour lie between 0.9 and 2; graphile-worker is ahead in the median, too: its hint is part of the commit of the job, where ours is one of its own, so that the commits of many need not line up',
      },
    ],
    lines: [
      ...names.flatMap((name) => [
        line(name, 'p50', 'ms', (starts) => starts.p50_ms),
        line(name, 'p95', 'ms', (starts) => starts.p95_ms),
        line(name, 'p99', 'ms', (starts) => starts.p99_ms),
        line(name, 'Node CPU', 'µs/job', (starts) => starts.node_us),
        line(name, 'CPU of the store', 'µs/job', (starts) => starts.store_us),
      ]),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      rate: `${per_second} single jobs each second, at random moments of their 20 ms, for ${seconds} s after ${warm_up_seconds} s`,
      processes: 'one that enqueues by the library of the system, one that runs a worker',
      ...setup,
      'pg-boss, polling': 'the same without LISTEN/NOTIFY',
      payload: `${payloadText.length} bytes`,
      clock: 'enqueue call until the first line of the handler',
    },
    checks: ['delivered = unique = enqueued for each system in every round', ...remarks],
  };
}
