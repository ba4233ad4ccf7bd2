// Says what was made because of other jobs: those that push the news of an end, and those that repeat one.
// Invariant: whoever looks for ready jobs and whoever counts jobs hears of each of them, after the commit.
// Next room: store/callbacks.ts and store/repeats.ts, which make them; events.ts.
import { typeOf } from '../domain/options.ts';
import type { EventBus } from '../events.ts';
import type { Told } from '../store/callbacks.ts';
import type { Lanes } from '../store/lanes.ts';
import type { Repeated } from '../store/repeats.ts';
import type { Ready } from './ready.ts';

export function tellOfCallbacks(
  told: readonly Told[],
  { ready, events }: { ready: Ready; events: EventBus },
): void {
  if (told.length === 0) return;
  ready.announce(told);
  for (const { lane } of told) {
    events.emit('jobs.moved', { jobs: 1, from: null, to: { lane, state: 'queued' } });
  }
}

export async function tellOfRepeats(
  made: readonly Repeated[],
  told: { lanes: Lanes; ready: Ready; events: EventBus; onLater: (ms: number) => void },
): Promise<void> {
  const { lanes, ready, events, onLater } = told;
  ready.announce(made.filter((one) => one.ready));
  for (const one of made) {
    const { id: job_id, lane, letter_lane } = one;
    if (!one.ready) onLater(one.due_in_ms);
    if (letter_lane !== null)
      events.emit('jobs.moved', { jobs: 1, from: { lane: letter_lane, state: 'dead' }, to: null });
    const { queue, route } = lanes.peek(lane) ?? (await lanes.get(lane));
    const job = { job_id, lane, queue, type: typeOf(route) };
    events.emit('job.submitted', { ...job, state: one.ready ? 'queued' : 'scheduled', replayed: false });
  }
}
