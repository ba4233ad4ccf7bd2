// Figure: what an answer in the same call costs over the async path: the round trip of a POST that demands the outcome,
// against the sum of what the job goes through one after another anyway.
// The parts, each the p50 of async jobs: enqueue, from the POST until its 202 has come; start, from the commit of the job
// until the first line of its handler; settle, from there until the commit of the outcome. What the sync path adds is to
// notice the end, to read the job and its result and to write the answer.
// Invariants: one process with all roles, one caller at a time, the three ways in turn, so that they meet the same machine;
// every answer is the job's result or its 202; every job was started once and settled.
// Next room: contestants/witness.ts, the process that sees the parts.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { calling } from '../caller.ts';
import { calmRounds } from '../calm.ts';
import type { Seen, Told } from '../contestants/witness.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import type { Ground } from '../ground.ts';
import { quantile, ratios, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { pathOf } from '../served.ts';

const calls_each = 300;
const warm_up = 60;
/** Between two calls, so that the async job before has ended and the system is idle. */
const gap_ms = 15;

const ways = {
  async: {},
  Expect: { Expect: '200-ok' },
  'Errand-Expect': { 'Errand-Expect': '200-ok' },
} as const;

type Way = keyof typeof ways;
const names = Object.keys(ways) as Way[];

/** p50s in ms. */
type Round = Record<'enqueue' | 'start' | 'settle' | 'Expect' | 'Errand-Expect', number>;

export async function sync({ rounds = 3, ground, say }: FigureOptions): Promise<Figure> {
  let databases = 0;
  const { kept, others, remarks } = await calmRounds<Round>({
    rounds,
    server: ground.pid,
    say,
    async take() {
      const round = await roundOf(ground, `sync_${databases++}`);
      say(`sync: ${round.Expect.toFixed(2)} against ${sumOf(round).toFixed(2)} ms`);
      return round;
    },
  });
  const sums = kept.map(sumOf);
  const each = (name: keyof Round) => kept.map((round) => round[name]);
  const line = (what: string, values: number[]) => ({ what, unit: 'ms', spread: spreadOf(values) });
  return {
    name: 'sync',
    title: 'An answer in the same call',
    goals: (['Expect', 'Errand-Expect'] as const).map((name) => ({
      what: `round trip with ${name}: 200-ok, p50`,
      against: 'enqueue + start + settle of the async path',
      ...{ at: 'most', value: 1.3, stretch: 1.1, unit: '×' },
      seen: spreadOf(ratios(each(name), sums)),
    })),
    lines: [
      line('async: enqueue, POST until its 202, p50', each('enqueue')),
      line('async: start, commit until the handler starts, p50', each('start')),
      line('async: settle, handler until the commit of its end, p50', each('settle')),
      line('async: sum of the three', sums),
      line('Expect: 200-ok, round trip, p50', each('Expect')),
      line('Errand-Expect: 200-ok, round trip, p50', each('Errand-Expect')),
      { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
    ],
    setup: {
      process: 'one, all roles, an in-process handler that returns {"ok":true}',
      calls: `${calls_each} of each way in a round, in turn, one at a time, ${gap_ms} ms apart, after ${warm_up} of each`,
      payload: `${payloadText.length} bytes`,
    },
    checks: [
      'every sync call was answered 200 with the result',
      'every job was started once and settled',
      ...remarks,
    ],
  };
}

function sumOf({ enqueue, start, settle }: Round): number {
  return enqueue + start + settle;
}

async function roundOf(ground: Ground, database: string): Promise<Round> {
  const url = await ground.database(database);
  const child = fork(pathOf('./contestants/witness.ts'), [url], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    const { port } = new URL((await toldBy<{ url: string }>(child)).url);
    const took: Record<Way, number[]> = { async: [], Expect: [], 'Errand-Expect': [] };
    const asyncIds: string[] = [];
    const caller = await calling(Number(port));
    for (let n = 0; n < warm_up + calls_each; n++) {
      for (const way of names) {
        const { status, body, took_ms } = await caller.post(
          '/v1/jobs',
          JSON.stringify({ type: 'noop', payload }),
          ways[way],
        );
        const isRight = way === 'async' ? status === 202 : status === 200 && body === '{"ok":true}';
        if (!isRight) throw new Error(`a call with ${way} was answered ${status} ${body}; no figure`);
        await pause(gap_ms);
        if (n < warm_up) continue;
        took[way].push(took_ms);
        if (way === 'async') asyncIds.push((JSON.parse(body) as { id: string }).id);
      }
    }
    caller.close();
    child.send('tell');
    const { seen } = await toldBy<{ seen: Seen[] }>(child);
    return {
      ...partsOf(seen, asyncIds),
      enqueue: p50(took.async),
      Expect: p50(took.Expect),
      'Errand-Expect': p50(took['Errand-Expect']),
    };
  } finally {
    const gone = child.exitCode === null ? once(child, 'exit') : undefined;
    if (child.connected) child.disconnect();
    await gone;
  }
}

/** The parts of the async jobs, after a look at all. */
function partsOf(seen: readonly Seen[], asyncIds: readonly string[]): Pick<Round, 'start' | 'settle'> {
  const called = (warm_up + calls_each) * names.length;
  const whole = seen.filter(
    ({ stored, started, settled }) => !Number.isNaN(stored + started + settled),
  ).length;
  if (seen.length !== called || whole !== called) {
    throw new Error(`${called} calls, ${seen.length} jobs, ${whole} of them run once and settled; no figure`);
  }
  const byId = new Map(seen.map((job) => [job.id, job]));
  const jobs = asyncIds.map((id) => byId.get(id) as Seen);
  return {
    start: p50(jobs.map(({ stored, started }) => started - stored)),
    settle: p50(jobs.map(({ started, settled }) => settled - started)),
  };
}

function p50(values: readonly number[]): number {
  return quantile(Float64Array.from(values).sort(), 0.5);
}

const longest_word_ms = 60_000;

async function toldBy<T extends Told>(child: ChildProcess): Promise<T> {
  const [told] = await once(child, 'message', { signal: AbortSignal.timeout(longest_word_ms) });
  return told as T;
}
