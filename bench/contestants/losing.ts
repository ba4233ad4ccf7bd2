// Errand with a planted fault: one job is finished without having been delivered.
// Next room: doubling.ts, its sister.
import type { Contestant } from '../contestant.ts';
import { contestant as errand } from './errand.ts';

export const contestant: Contestant = {
  ...errand,
  work(url, concurrency, onRun) {
    let isFirst = true;
    return errand.work(url, concurrency, (id) => {
      if (!isFirst) onRun(id);
      isFirst = false;
    });
  },
};
