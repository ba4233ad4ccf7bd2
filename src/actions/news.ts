// Says what was made along with something else: the jobs that push the news of an end.
// Invariant: whoever looks for ready jobs and whoever counts jobs hears of each of them, after the commit.
// Next room: store/callbacks.ts, which makes them; events.ts.
import type { EventBus } from '../events.ts';
import type { Told } from '../store/callbacks.ts';
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
