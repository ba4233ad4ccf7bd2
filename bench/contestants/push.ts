// Errand that pushes to a target: jobs with the URL it is started with, and a worker that counts what was answered.
// Next room: errand.ts, which is the rest of it.
import type { Contestant } from '../contestant.ts';
import { contestant as inProcess, start, submission } from './errand.ts';

const [target = ''] = process.argv.slice(4);
const calls_in_flight = 500;

export const contestant: Contestant = {
  ...inProcess,

  async fill(url, count, payload) {
    const errand = await start(url, { ERRAND_ROLES: 'api' });
    const text = JSON.stringify(payload);
    const asked = { ...submission(text), options: { target: { url: target, method: 'POST' as const } } };
    let left = count;
    const caller = async () => {
      while (left-- > 0) await errand.actions.submit(asked);
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: calls_in_flight }, caller));
    const seconds = (performance.now() - began) / 1_000;
    await errand.drain(true);
    return seconds;
  },

  async work(url, concurrency, onRun) {
    const errand = await start(url, { ERRAND_ROLES: 'worker', ERRAND_PUSH_CONCURRENCY: String(concurrency) });
    errand.events.on('target.answered', ({ job_id }) => onRun(job_id));
    return { stop: () => errand.drain(true) };
  },
};
