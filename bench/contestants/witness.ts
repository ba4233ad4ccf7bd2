// Errand in one process, with all roles and a no-op handler, that remembers when each job was stored, started and settled.
// Next room: ../figures/sync.ts, which asks for these moments.
import { compose } from '../../src/compose.ts';
import { readConfig } from '../../src/config.ts';
import { defineHandler } from '../../src/errand.ts';
import { nowOfMachine } from '../trickle.ts';

/** What became of one job, in ms; `settled` is after the commit. */
export interface Seen {
  id: string;
  stored: number;
  started: number;
  settled: number;
}

/** What it tells: where it listens, then what it has seen. */
export type Told = { url: string } | { seen: Seen[] };

const [url = ''] = process.argv.slice(2);
const seen = new Map<string, Seen>();

function of(id: string): Seen {
  const known = seen.get(id) ?? { id, stored: Number.NaN, started: Number.NaN, settled: Number.NaN };
  seen.set(id, known);
  return known;
}

const noop = defineHandler({
  type: 'noop',
  run(_, { job_id }) {
    const job = of(job_id);
    if (!Number.isNaN(job.started)) throw new Error(`job ${job_id} was started twice`);
    job.started = nowOfMachine();
    return { ok: true };
  },
});

const config = readConfig({ DATABASE_URL: url, PORT: '0', ERRAND_LOG_LEVEL: 'warn' });
const errand = await compose(config, {
  migrate: true,
  handlers: [noop],
  log: (line) => process.stderr.write(line),
});
errand.events.on('job.submitted', ({ job_id }) => {
  of(job_id).stored = nowOfMachine();
});
errand.events.on('job.ended', ({ job_id, outcome }) => {
  if (outcome === 'succeeded') of(job_id).settled = nowOfMachine();
});

const tell = (told: Told) => process.send?.(told);
process.on('message', () => tell({ seen: [...seen.values()] }));
process.on('disconnect', () => void errand.drain(true).finally(() => process.exit(0)));
tell({ url: errand.url });
