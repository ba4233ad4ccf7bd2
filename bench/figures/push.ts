// Figure: pushes to a target on this machine with 128 in flight, against the bare HTTP client with as many.
// Invariants: one target, up for all rounds, that both send the same requests to; each sender is a process of its own with a
// warm-up; what the target has received is what was enqueued, each job once.
// Next room: sink.ts, the target; rawpush.ts, the limit; contestants/push.ts.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { calmRounds } from '../calm.ts';
import { enter } from '../contestant.ts';
import { checkDelivery } from '../delivery.ts';
import { drain } from '../drained.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import type { Ground } from '../ground.ts';
import { inTurn, ratios, spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';
import type { RawResult } from '../rawpush.ts';
import { answerFrom, pathOf } from '../served.ts';
import type { Received } from '../sink.ts';

const jobs = 24_000;
const warm_up = 3_000;
const inFlight = 128;

type Way = 'errand' | 'undici';

interface Done {
  per_second: number;
  node_us: number;
  postgres_us: number;
}

export async function push({ rounds = 6, ground, say }: FigureOptions): Promise<Figure> {
  const sink = fork(pathOf('./sink.ts'), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  let databases = 0;
  try {
    const { port } = await toldBy<{ port: number }>(sink);
    const takes: Record<Way, () => Promise<Done>> = {
      errand: () => errandPushes(ground, `push_${databases++}`, sink, port),
      undici: () => rawPushes(sink, port),
    };
    const { kept, others, remarks } = await calmRounds<Record<Way, Done>>({
      rounds,
      server: ground.pid,
      say,
      async take(round) {
        const both: Partial<Record<Way, Done>> = {};
        for (const way of inTurn<Way>(round, ['errand', 'undici'])) both[way] = await takes[way]();
        const { errand, undici } = both as Record<Way, Done>;
        say(`push: ${Math.round(errand.per_second)} against ${Math.round(undici.per_second)} requests/s`);
        return { errand, undici };
      },
    });
    const each = (way: Way, what: keyof Done) => kept.map((round) => round[way][what]);
    const line = (what: string, unit: string, values: number[]) => ({ what, unit, spread: spreadOf(values) });
    return {
      name: 'push',
      title: `Pushes, ${inFlight} in flight`,
      goals: [
        {
          what: `pushes, ${inFlight} in flight`,
          against: 'bare undici with as many',
          ...{ at: 'least', value: 0.75, stretch: 0.9, unit: '×' },
          seen: spreadOf(ratios(each('errand', 'per_second'), each('undici', 'per_second'))),
          short:
            'the bare client is as fast as one core lets it be, with headers made once; a push has its own headers, seals and checks on that core, and claim and settle take a good part of the other, which the target needs',
        },
      ],
      lines: [
        ...(['errand', 'undici'] as const).flatMap((way) => [
          line(`${way}: requests`, '/s', each(way, 'per_second')),
          line(`${way}: Node CPU`, 'µs/request', each(way, 'node_us')),
        ]),
        line('errand: database CPU', 'µs/job', each('errand', 'postgres_us')),
        { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
      ],
      setup: {
        jobs: `${jobs} after ${warm_up} of warm-up in the same process`,
        payload: `${payloadText.length} bytes`,
        target: 'node:http in a process of its own, 200 with {"ok":true}',
        Errand:
          'one worker process, signed requests, claim and settle counted: first answer until the store is empty',
        'bare undici':
          'Pool.request with as many connections, the same body and headers, made once; answers are read',
      },
      checks: ['requests at the target = jobs of the round, each job once, all succeeded', ...remarks],
    };
  } finally {
    const gone = once(sink, 'exit');
    if (sink.connected) sink.disconnect();
    await gone;
  }
}

async function errandPushes(
  ground: Ground,
  database: string,
  sink: ChildProcess,
  port: number,
): Promise<Done> {
  const url = await ground.database(database);
  const stage = enter('push', url, `http://127.0.0.1:${port}/`);
  try {
    const shared = { concurrency: inFlight, server: ground.pid };
    await stage.ask('prepare', {});
    await stage.ask('fill', { count: warm_up });
    await drain([stage], { count: warm_up, ...shared });
    await received(sink, warm_up);
    await stage.ask('fill', { count: jobs });
    await ground.ask(url, 'vacuum (analyze)');
    const { ids: pushed, seconds, node_us, postgres_us } = await drain([stage], { count: jobs, ...shared });
    const { ids } = await received(sink, jobs);
    const { finished } = await stage.ask('finished', { enqueued: jobs });
    checkDelivery('push', { enqueued: jobs, ids: pushed, finished: finished - warm_up });
    checkDelivery('push, at the target', { enqueued: jobs, ids });
    return { per_second: jobs / seconds, node_us: node_us / jobs, postgres_us: postgres_us / jobs };
  } finally {
    await stage.leave();
  }
}

async function rawPushes(sink: ChildProcess, port: number): Promise<Done> {
  const { seconds, node_us } = await answerFrom<RawResult>('./rawpush.ts', {
    port,
    count: jobs,
    warm_up,
    inFlight,
  });
  await received(sink, jobs + warm_up);
  return { per_second: jobs / seconds, node_us: node_us / jobs, postgres_us: 0 };
}

async function received(sink: ChildProcess, count: number): Promise<Received> {
  sink.send('tell');
  const told = await toldBy<Received>(sink);
  if (told.requests !== count)
    throw new Error(`the target got ${told.requests} of ${count} requests; no figure`);
  return told;
}

const longest_word_ms = 30_000;

async function toldBy<T>(child: ChildProcess): Promise<T> {
  const [told] = await once(child, 'message', { signal: AbortSignal.timeout(longest_word_ms) });
  return told as T;
}
