// The part of the composition root that moves jobs: what is ready is told and claimed; what was claimed is kept, handed over
// and ended; what waits is cancelled, or let in where it waits for its unique key.
// Invariant: handlers, pushes and pull workers move jobs by the same verbs, so what is promised of one way holds for all.
// Next room: actions/claim.ts and actions/settle.ts; runners.ts, which runs what was claimed.
import { cancelling } from '../actions/cancel.ts';
import { claiming } from '../actions/claim.ts';
import { handingOver } from '../actions/hand-over.ts';
import { beating } from '../actions/heartbeat.ts';
import { keeping } from '../actions/keys.ts';
import { progressing } from '../actions/progress.ts';
import { Ready } from '../actions/ready.ts';
import { settling } from '../actions/settle.ts';
import { Heads } from '../domain/heads.ts';
import { OpenLeases } from '../domain/open-leases.ts';
import type { EventBus } from '../events.ts';
import { notifyReady } from '../store/listen.ts';
import type { Stores } from './stores.ts';

export type Movers = ReturnType<typeof movers>;

export function movers(
  { engine, read, claims, lanes, onError }: Stores,
  events: EventBus,
  options: {
    /** Whether operators let jobs of a lane start. */
    mayClaim: (lane: number) => boolean;
    /** What time it is for jobs. */
    now: () => Date;
    onEnded: (ids: string[]) => void;
    /** A job falls due in so many ms. */
    onLater: (ms: number) => void;
    /** A key is free for which a job may wait. */
    onFree: () => void;
    /** A job that runs was asked to stop. */
    onRequested: (id: string) => void;
  },
) {
  const { onEnded, onLater, onFree, onRequested, now } = options;
  const heads = new Heads(options.mayClaim);
  const open = new OpenLeases();
  const ready = new Ready({
    heads,
    notify: (payload) => notifyReady(engine, payload),
    meet: (lane) => (lanes.peek(lane) === undefined ? lanes.refresh() : undefined),
    onError: onError('notify'),
  });
  const heartbeat = beating(engine);
  const settle = settling({ db: engine, open, ready, events, onEnded, onLater, now });
  const keys = keeping({
    ...{ db: engine, lanes, ready, events, onEnded, onLater, onFree },
    onError: onError('unique'),
  });
  events.on('job.ended', ({ job_id }) => keys.heardEnd(job_id));
  return {
    heads,
    ready,
    heartbeat,
    handOver: handingOver({ db: engine, open, heartbeat }),
    progress: progressing({ db: engine, events }),
    settle,
    claim: claiming({ db: claims, heads, lanes, open, settle, events }),
    cancel: cancelling({ db: read, lanes, events, ready, onEnded, onRequested }),
    keys,
  };
}
