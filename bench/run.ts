// npm run bench [-- --profile short|long] [--only post,drain,…] [--rounds N] [--record] [--plant doubling|losing]: takes the
// figures, prints them as Markdown and leaves the JSON in a temporary folder; `--record` writes bench/RESULTS.md.
// Invariants: a figure that fails takes no other with it; exit code 1 when one did, be it by its delivery check, never for
// a goal that is missed: that is for people to judge. Progress goes to stderr.
// Next room: figures/all.ts, the figures; ground.ts, the servers they share.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Profile } from './figure.ts';
import { figures } from './figures/all.ts';
import { prepareGround } from './ground.ts';
import { markdown, record, type Taken } from './report.ts';

const { values } = parseArgs({
  options: {
    profile: { type: 'string', default: 'short' },
    only: { type: 'string' },
    rounds: { type: 'string' },
    record: { type: 'boolean' },
    plant: { type: 'string', default: 'errand' },
  },
});
const names = Object.keys(figures);
const { profile, plant } = values;
const wanted =
  values.only?.split(',') ?? names.filter((name) => profile === 'long' || figures[name]?.isShort);
const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
const unknown = wanted.filter((name) => figures[name] === undefined);
if (
  !['short', 'long'].includes(profile) ||
  // A fault that is planted must be refused, so there is nothing to record.
  !(plant === 'errand' || (['doubling', 'losing'].includes(plant) && !values.record)) ||
  unknown.length > 0 ||
  (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0))
) {
  console.error(
    `--profile is short or long; --only a list of ${names.join(', ')}; --rounds a whole number from 1; ` +
      '--plant doubling or losing, without --record',
  );
  process.exit(2);
}

const say = (line: string) => console.error(line);
const ground = await prepareGround();
// The servers and their gigabytes must not outlive a run that is interrupted.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void ground.stop().finally(() => process.exit(130)));
}
const taken: Taken[] = [];
const failed: Record<string, string> = {};
try {
  for (const [name, { take }] of Object.entries(figures)) {
    if (!wanted.includes(name)) continue;
    const began = performance.now();
    try {
      const figure = await take({ rounds, profile: profile as Profile, ground, errand: plant, say });
      taken.push({ at: new Date().toISOString(), machine: ground.machine, figure });
    } catch (error) {
      failed[name] = error instanceof Error ? error.message : String(error);
      console.error(`no figure "${name}":`, error);
    }
    say(`${name}: ${Math.round((performance.now() - began) / 1_000)} s`);
  }
} finally {
  await ground.stop();
}

console.log(markdown(taken, failed));
if (values.record) record(taken);
const file = join(mkdtempSync(join(tmpdir(), 'errand-bench-results-')), 'figures.json');
writeFileSync(file, `${JSON.stringify(taken, null, 2)}\n`);
say(`JSON: ${file}`);
process.exitCode = Object.keys(failed).length > 0 ? 1 : 0;
