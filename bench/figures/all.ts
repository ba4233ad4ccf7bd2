// The figures by name, in the order in which they are taken and printed.
// Next room: each of them; run.ts, which takes them.
import type { Entry } from '../figure.ts';
import { backlog } from './backlog.ts';
import { batches } from './batch.ts';
import { bulk } from './bulk.ts';
import { drain } from './drain.ts';
import { history } from './history.ts';
import { latency } from './latency.ts';
import { layerPrices } from './layers.ts';
import { limits } from './limits.ts';
import { post } from './post.ts';
import { postPeers } from './post-peers.ts';
import { price } from './price.ts';
import { processes } from './processes.ts';
import { pull } from './pull.ts';
import { push } from './push.ts';
import { steady } from './rates.ts';
import { schedules } from './schedules.ts';
import { snapshot } from './snapshot.ts';
import { sync } from './sync.ts';
import { wal } from './wal.ts';

export const figures: Readonly<Record<string, Entry>> = {
  wal: { isShort: true, take: wal },
  drain: { isShort: true, take: drain },
  post: { isShort: true, take: post },
  layers: { isShort: false, take: layerPrices },
  'post-peers': { isShort: true, take: postPeers },
  bulk: { isShort: true, take: bulk },
  batch: { isShort: false, take: batches },
  limits: { isShort: true, take: limits },
  latency: { isShort: true, take: latency },
  processes: { isShort: false, take: processes },
  rates: { isShort: false, take: steady },
  backlog: { isShort: false, take: backlog },
  snapshot: { isShort: false, take: snapshot },
  history: { isShort: false, take: history },
  price: { isShort: false, take: price },
  sync: { isShort: false, take: sync },
  pull: { isShort: false, take: pull },
  push: { isShort: false, take: push },
  schedules: { isShort: false, take: schedules },
};
