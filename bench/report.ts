// Tells figures as a table for people and as JSON for programs. bench/RESULTS.md and bench/results/figures.json are the
// recorded ones; recording some figures keeps the others.
// Invariant: nothing that names the machine is written: no host name, no path, no address.
// Next room: RESULTS.md.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Figure, type Goal, verdictOn } from './figure.ts';
import { figures } from './figures/all.ts';
import { type Machine, settings } from './ground.ts';
import type { Spread } from './measure.ts';

/** A figure with the time and the machine it was taken on. */
export interface Taken {
  at: string;
  machine: Machine;
  figure: Figure;
}

const folder = fileURLToPath(new URL('./results', import.meta.url));
const page = fileURLToPath(new URL('./RESULTS.md', import.meta.url));

/** Puts figures into the record and writes the page anew. */
export function record(taken: readonly Taken[]): void {
  const file = `${folder}/figures.json`;
  const before: Taken[] = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : [];
  const names = new Set(taken.map(({ figure }) => figure.name));
  const all = [...before.filter(({ figure }) => !names.has(figure.name)), ...taken];
  const order = Object.keys(figures);
  all.sort((a, b) => order.indexOf(a.figure.name) - order.indexOf(b.figure.name));
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`);
  writeFileSync(page, markdown(all));
}

/** Figures that could not be made are named, by name and reason. */
export function markdown(all: readonly Taken[], failed: Readonly<Record<string, string>> = {}): string {
  return [
    '# Bench results',
    '',
    'Written by `npm run bench -- --record`. Absolute rates belong to the machine and the hour; what counts are the',
    'ratios, taken round by round between contestants that alternate on the same server. Errand and its peers in Postgres',
    'answer after an fsynced commit; BullMQ does not wait for the disk, as its setup says.',
    '',
    ...summary(all),
    ...Object.entries(failed).map(([name, reason]) => `- **No figure "${name}"**: ${reason}\n`),
    ...all.flatMap(section),
  ].join('\n');
}

function summary(all: readonly Taken[]): string[] {
  const goals = all.flatMap(({ figure }) => figure.goals);
  return [
    '| what | against | at least or most | stretch | median | min – max | rounds | |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...goals.map(row),
    '',
    ...goals
      .filter((goal) => verdictOn(goal) === 'missed')
      .map(({ what, against, short }) => {
        const row = against === undefined ? what : `${what} against ${against}`;
        return `- Missed, ${row}: ${short ?? 'the reason is not known yet'}.`;
      }),
    '',
  ];
}

function row(goal: Goal): string {
  const { what, against = '', at, value, stretch, unit, seen } = goal;
  const bound = at === 'least' ? '≥' : '≤';
  const verdict = { stretch: 'met, stretch too', met: 'met', missed: '**missed**' }[verdictOn(goal)];
  const further = stretch === undefined ? '' : `${bound} ${show(stretch)}`;
  const cells = [what, against, `${bound} ${show(value)} ${unit}`, further];
  return `| ${[...cells, `${show(seen.median)} ${unit}`, range(seen), seen.rounds, verdict].join(' | ')} |`;
}

function section({ at, machine, figure }: Taken): string[] {
  const { cores, cpu, memory_gib, node, postgres } = machine;
  const setup = Object.entries({ ...figure.setup, Postgres: serverSettings() });
  return [
    `## ${figure.title}`,
    '',
    `Taken on ${at.slice(0, 10)}: ${cores} cores (${cpu}), ${memory_gib} GiB, Node ${node}, PostgreSQL ${postgres};`,
    'load, server and database share the cores.',
    '',
    '| | median | min – max |',
    '| --- | --- | --- |',
    ...figure.lines.map(({ what, unit, spread }) => {
      return `| ${what} | ${show(spread.median)} ${unit} | ${spread.rounds > 1 ? range(spread) : ''} |`;
    }),
    '',
    'Setup:',
    ...setup.map(([name, value]) => `- ${name}: ${value}`),
    '',
    'Checked:',
    ...figure.checks.map((check) => `- ${check}`),
    '',
  ].map((line) => line.trimEnd());
}

function serverSettings(): string {
  const named = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  return ['fsync and synchronous_commit on', ...named].join(', ');
}

function range({ min, max }: Spread): string {
  return `${show(min)} – ${show(max)}`;
}

/** Three significant digits: more would pretend. */
function show(value: number): string {
  if (Number.isNaN(value)) return 'not known here';
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-GB');
  return String(Number(value.toPrecision(3)));
}
