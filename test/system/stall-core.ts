// Why this room exists: a crowd of readers who do not read is put before a real service twice, small in "npm test" and large
// as a drill.
// Invariant: it is known that they were stuck: each must have received less than was reported, or have been cut; otherwise
// the caller must say that nothing was proven.
// Next room: support/stalled_readers.py, the crowd; src/http/events.ts, which has to stand it.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { exitOf, spawnTied } from '../support/children.ts';
import { type EventStream, openStream } from '../support/event-stream.ts';
import { type Service, startService } from '../support/process.ts';
import { until } from '../support/until.ts';
import { python } from './import-core.ts';

export interface StallPlan {
  databaseUrl: string;
  readers: number;
  /** Reports of progress before the crowd is there and after. */
  reports_alone: number;
  reports: number;
  /** Bytes of one report. */
  report_bytes: number;
  /** Keep reporting until the crowd was cut. */
  untilCut: boolean;
}

export interface StallFacts {
  readers: number;
  reports: number;
  /** How long a report takes to who reads, from the call that sends it: without the crowd and with it. */
  alone_p50_ms: number;
  alone_max_ms: number;
  crowd_p50_ms: number;
  crowd_max_ms: number;
  /** Resident memory of the service, in MiB: before the crowd, when it was stuck, at the end. */
  before_mib: number;
  stuck_mib: number;
  end_mib: number;
  /** Of the crowd: read to `done`, cut, and the most reports one of them received. */
  done: number;
  cut: number;
  most_received: number;
}

const CROWD = fileURLToPath(new URL('../support/stalled_readers.py', import.meta.url));
const FAST = 5;

export async function runStall(plan: StallPlan): Promise<StallFacts> {
  const service = await startService({ env: { DATABASE_URL: plan.databaseUrl, ERRAND_LOG_LEVEL: 'error' } });
  let crowd: ChildProcess | undefined;
  try {
    const job = await holdJob(service);
    const fast = await Promise.all(Array.from({ length: FAST }, () => openStream(service.url, job.id)));
    const alone = await reportTimes(job, fast, plan.reports_alone, plan.report_bytes);
    const before_mib = await residentMib(service);

    const path = `/v1/jobs/${job.id}/events`;
    crowd = spawnTied(python as string, [CROWD, String(service.port), path, String(plan.readers)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: crowd.stdout as NonNullable<ChildProcess['stdout']> });
    await nextLine(lines);
    await until(async () => (await gauge(service, 'errand_streams')) === plan.readers + FAST, {
      timeoutMs: 20_000,
    });

    const half = Math.ceil(plan.reports / 2);
    const crowded = await reportTimes(job, fast, half, plan.report_bytes);
    const stuck_mib = await residentMib(service);
    crowded.push(...(await reportTimes(job, fast, plan.reports - half, plan.report_bytes)));
    if (plan.untilCut) {
      const gone = async () => (await gauge(service, 'errand_streams')) === FAST;
      while (!(await gone())) crowded.push(...(await reportTimes(job, fast, 5, plan.report_bytes)));
    }
    const end_mib = await residentMib(service);

    await job.call('POST', '/complete', { result: 1 });
    assert.ok((await Promise.all(fast.map(({ over }) => over))).every(Boolean), 'a reader was cut');
    for (const { events } of fast) assert.equal(events.at(-1)?.event, 'done');
    crowd.stdin?.write('read\n');
    const { done, cut, most } = JSON.parse(await nextLine(lines));
    const { p50: alone_p50_ms, max: alone_max_ms } = spread(alone);
    const { p50: crowd_p50_ms, max: crowd_max_ms } = spread(crowded);
    return {
      ...{ readers: plan.readers, reports: crowded.length },
      ...{ alone_p50_ms, alone_max_ms, crowd_p50_ms, crowd_max_ms },
      ...{ before_mib, stuck_mib, end_mib, done, cut, most_received: most },
    };
  } finally {
    crowd?.stdin?.end();
    if (crowd !== undefined) await exitOf(crowd);
    await service.stop();
  }
}

interface HeldJob {
  id: string;
  call(method: string, path: string, body: unknown): Promise<unknown>;
}

async function holdJob({ url }: Service): Promise<HeldJob> {
  const send = async (method: string, path: string, body: unknown) => {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(url + path, { method, headers, body: JSON.stringify(body) });
    assert.ok(answer.ok, `${method} ${path} => ${answer.status}`);
    return answer.status === 204 ? null : answer.json();
  };
  await send('POST', '/v1/jobs', { type: 'held', timeout_seconds: 3_600 });
  const { leases } = (await send('POST', '/v1/leases', { types: ['held'], lease_seconds: 3_600 })) as {
    leases: { id: string; job: { id: string } }[];
  };
  const [lease] = leases;
  assert.ok(lease);
  return {
    id: lease.job.id,
    call: (method, path, body) => send(method, `/v1/leases/${lease.id}${path}`, body),
  };
}

/** Reports, one after the other reached everybody who reads; answers how long that took, in ms. */
async function reportTimes(
  job: HeldJob,
  fast: readonly EventStream[],
  reports: number,
  bytes: number,
): Promise<number[]> {
  const times: number[] = [];
  const filling = 'x'.repeat(bytes);
  for (let n = 0; n < reports; n++) {
    const mark = crypto.randomUUID();
    const began = performance.now();
    await job.call('PUT', '/progress', { mark, filling });
    const has = ({ events }: EventStream) =>
      (events.at(-1)?.data.progress as { mark?: string })?.mark === mark;
    await until(() => fast.every(has), {
      everyMs: 1,
      timeoutMs: 20_000,
      what: 'every fast reader has the report',
    });
    times.push(Math.round(performance.now() - began));
    await pause(20);
  }
  return times;
}

function spread(times: readonly number[]): { p50: number; max: number } {
  const sorted = [...times].sort((a, b) => a - b);
  return { p50: sorted[Math.floor(sorted.length / 2)] ?? 0, max: sorted.at(-1) ?? 0 };
}

async function nextLine(lines: Interface): Promise<string> {
  const [line] = (await once(lines, 'line')) as [string];
  return line;
}

async function gauge({ url }: Service, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

async function residentMib(service: Service): Promise<number> {
  return Math.round((await gauge(service, 'process_resident_memory_bytes')) / 2 ** 20);
}
