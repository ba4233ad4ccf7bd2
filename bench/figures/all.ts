// The figures by name, in the order in which they are taken and printed.
// Next room: each of them; run.ts, which takes them.
import type { Entry } from '../figure.ts';
import { batches } from './batch.ts';
import { drain } from './drain.ts';
import { latency } from './latency.ts';
import { post } from './post.ts';
import { steady } from './rates.ts';
import { schedules } from './schedules.ts';
import { wal } from './wal.ts';

export const figures: Readonly<Record<string, Entry>> = {
  wal: { isShort: true, take: wal },
  drain: { isShort: true, take: drain },
  post: { isShort: true, take: post },
  batch: { isShort: true, take: batches },
  latency: { isShort: true, take: latency },
  rates: { isShort: false, take: steady },
  schedules: { isShort: false, take: schedules },
};
