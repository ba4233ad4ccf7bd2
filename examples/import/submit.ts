// Submits the data set: one job per slice, each under its own Idempotency-Key, and waits for all of them.
// Invariant: every call may be repeated, so this program just does so while the service is away, and may itself be started
// again at any time: a slice that was submitted before is the same job.
// Settings: ERRAND_URL, CITIES (how many; default all), SLICE (cities per job), RUN (a new word imports anew).
// Next room: import_cities.py, which runs the jobs; verify.ts afterwards.
import { setTimeout as pause } from 'node:timers/promises';
import { readCities, slicesOf } from './cities.ts';

const url = (process.env.ERRAND_URL ?? 'http://127.0.0.1:8080').replace(/\/$/, '');
const size = Number(process.env.SLICE ?? 500);
const run = process.env.RUN ?? 'first';
const slices = slicesOf(readCities(Number(process.env.CITIES ?? Number.POSITIVE_INFINITY)), size);

console.log(`submitting ${slices.length} slices of ${size} cities to ${url}`);
const monitors = await each(slices.length, 8, submit);
console.log('submitted; waiting for all to end');
const states = await each(slices.length, 32, (n) => end(monitors[n] as string));
const open = states.filter((state) => state !== 'succeeded');
console.log(`${states.length - open.length} slices succeeded, ${open.length} did not`);
process.exitCode = open.length === 0 ? 0 : 1;

/** Answers with the path of the job's status. */
async function submit(n: number): Promise<string> {
  const answer = await persist(`${url}/v1/jobs`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'idempotency-key': `cities/${run}/${size}/${n}`,
      prefer: 'return=minimal',
    },
    body: JSON.stringify({ type: 'import.cities', payload: { slice: n, cities: slices[n] } }),
  });
  const location = answer.headers.get('location');
  if (answer.status !== 202 || location === null) {
    throw new Error(`slice ${n} was answered ${answer.status}: ${await answer.text()}`);
  }
  await answer.body?.cancel();
  return location;
}

/** Polls with long polls: 303 is a result, 200 is any other state, 304 no change in the time waited. */
async function end(monitor: string): Promise<string> {
  for (;;) {
    const answer = await persist(url + monitor, { headers: { prefer: 'wait=20' }, redirect: 'manual' });
    if (answer.status === 303 || answer.status === 200) {
      const { state, terminal } = (await answer.json()) as { state: string; terminal: boolean };
      if (terminal) return state;
    } else if (answer.status !== 304) {
      throw new Error(`${monitor} answered ${answer.status}: ${await answer.text()}`);
    }
  }
}

/** Repeats a call, ever more rarely, while nobody answers or the answer is 429 or 5xx. */
async function persist(target: string, request: RequestInit): Promise<Response> {
  for (let wait = 100; ; wait = Math.min(wait * 2, 2_000)) {
    try {
      const answer = await fetch(target, { ...request, signal: AbortSignal.timeout(40_000) });
      if (answer.status < 500 && answer.status !== 429) return answer;
      await answer.body?.cancel();
    } catch {
      // Refused, reset or timed out: the service may be on its way up again.
    }
    await pause(wait * (0.5 + Math.random() / 2));
  }
}

/** Runs `work` for 0 to count-1, at most `width` at once, and answers in order. */
async function each<T>(count: number, width: number, work: (n: number) => Promise<T>): Promise<T[]> {
  const results: T[] = new Array(count);
  let next = 0;
  const line = async () => {
    for (let n = next++; n < count; n = next++) results[n] = await work(n);
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, line));
  return results;
}
