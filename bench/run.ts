// npm run bench [-- --only post,drain,wal,batch,schedules] [--rounds N] [--record]: takes the figures, prints them as Markdown and
// leaves the JSON in a temporary folder; `--record` writes bench/RESULTS.md.
// Invariant: exit code 1 when a delivery check fails, never for a goal that is missed: that is for people to judge.
// Next room: post.ts, batch.ts, drain.ts, wal.ts; ground.ts, the server they share.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { batches } from './batch.ts';
import { drain } from './drain.ts';
import type { Figure, FigureOptions } from './figure.ts';
import { prepareGround } from './ground.ts';
import { post } from './post.ts';
import { markdown, record, type Taken } from './report.ts';
import { schedules } from './schedules.ts';
import { wal } from './wal.ts';

const figures: Record<string, (options: FigureOptions) => Promise<Figure>> = {
  wal,
  drain,
  post,
  batch: batches,
  schedules,
};

const { values } = parseArgs({
  options: { only: { type: 'string' }, rounds: { type: 'string' }, record: { type: 'boolean' } },
});
const wanted = values.only?.split(',') ?? Object.keys(figures);
const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
const unknown = wanted.filter((name) => figures[name] === undefined);
if (unknown.length > 0 || (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0))) {
  console.error(`--only is a list of ${Object.keys(figures).join(', ')}; --rounds a whole number from 1`);
  process.exit(2);
}

const say = (line: string) => console.error(line);
const ground = await prepareGround();
// The server and its gigabytes must not outlive a run that is interrupted.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void ground.stop().finally(() => process.exit(130)));
}
const taken: Taken[] = [];
try {
  for (const [name, take] of Object.entries(figures)) {
    if (!wanted.includes(name)) continue;
    const figure = await take({ rounds, ground, say });
    taken.push({ at: new Date().toISOString(), machine: ground.machine, figure });
  }
} finally {
  await ground.stop();
}

console.log(markdown(taken));
if (values.record) record(taken);
const file = join(mkdtempSync(join(tmpdir(), 'errand-bench-results-')), 'figures.json');
writeFileSync(file, `${JSON.stringify(taken, null, 2)}\n`);
say(`JSON: ${file}`);
