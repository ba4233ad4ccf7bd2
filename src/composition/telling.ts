// The part of the composition root for those who wait: callers who hold a request for a job's end, streams that watch jobs,
// and the other replicas, where more of them are.
// Invariant: only hints: whoever is not told finds out by looking.
// Next room: actions/wait.ts and actions/watch.ts; signal/redis.ts, which carries ends to other replicas.
import { Waiters } from '../actions/wait.ts';
import { Watch } from '../actions/watch.ts';
import type { Config } from '../config.ts';
import type { EventBus } from '../events.ts';
import { Hints } from '../signal/redis.ts';
import { findVersions } from '../store/history.ts';
import type { Stores } from './stores.ts';

export type Telling = ReturnType<typeof telling>;

/** How soon progress is told: a crowd that watches a job is not woken by each of its many reports. */
const progress_ms = 100;

export function telling(config: Config, { read, onError }: Stores, events: EventBus) {
  const waiters = new Waiters({
    db: read,
    most: config.ERRAND_MAX_WAITERS,
    hinted: () => hints?.up ?? false,
    onError: onError('wait'),
  });
  const watch = new Watch({
    look: (ids) => read.many(findVersions, [ids]),
    mostStreams: config.ERRAND_MAX_STREAMS,
    onError: onError('watch'),
  });
  events.on('job.claimed', ({ job_id }) => watch.hear([job_id]));
  events.on('job.progressed', ({ job_id }) => watch.hear([job_id], progress_ms));
  events.on('job.ended', ({ job_id }) => watch.hear([job_id]));
  const hearEnded = (ids: string[]) => {
    waiters.release(ids);
    watch.hear(ids);
  };
  const hints =
    config.REDIS_URL === undefined ? null : carryHints(config.REDIS_URL, waiters, hearEnded, events);
  return {
    waiters,
    watch,
    hints,
    /** Jobs ended here: those who wait for them are told, here and elsewhere. */
    ended(ids: string[]): void {
      hearEnded(ids);
      hints?.ended(ids);
    },
  };
}

function carryHints(
  url: string,
  waiters: Waiters,
  onEnded: (ids: string[]) => void,
  events: EventBus,
): Hints {
  return new Hints({
    url,
    onHint: (ids) => {
      events.emit('hint.received', { ids: ids.length });
      onEnded(ids);
    },
    onSent: (ids) => events.emit('hint.sent', { ids }),
    onState: (up, error) => {
      if (!up) events.emit('store.error', { where: 'redis', error });
      // Hints may have been missed while it was away.
      else waiters.lookNow().catch((cause) => events.emit('store.error', { where: 'wait', error: cause }));
    },
  });
}
