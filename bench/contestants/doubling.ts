// Errand with a planted fault: one job is delivered twice. A bench that prints a figure of it proves nothing.
// Next room: losing.ts; ../delivery.ts, which must refuse both.
import type { Contestant } from '../contestant.ts';
import { contestant as errand } from './errand.ts';

export const contestant: Contestant = {
  ...errand,
  work(url, concurrency, onRun) {
    let isFirst = true;
    return errand.work(url, concurrency, (id) => {
      onRun(id);
      if (isFirst) onRun(id);
      isFirst = false;
    });
  },
};
