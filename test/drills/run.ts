// npm run drills -- [--profile short|long] [--seed N] [--record] [--again] [--minutes N] [names…]: runs drills one after another, each in
// a process of its own, and writes one JSON verdict for each; `--record` writes to docs/proof/. With --again (CI) a drill
// that failed is repeated once, with the same choices, and what passes then is named all the same. With --minutes (CI) they
// come in an order of chance, and none begins after so many minutes; those are named too.
// Invariants: a drill that crashes, hangs or says nothing has failed; exit code 1 when one failed or proved nothing.
// Next room: drill.ts, the form of a drill.
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { exitOf, exitWithin, spawnTied } from '../support/children.ts';
import { type Drill, type Profile, profiles, type Verdict } from './drill.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const repository = fileURLToPath(new URL('../..', import.meta.url));
const notDrills = ['drill.ts', 'run.ts', 'stage.ts'];
const default_limit_minutes = 15;

interface Written {
  drill: string;
  proves: string;
  profile: Profile;
  seed: number;
  started_at: string;
  seconds: number;
  versions: Record<string, string>;
}

process.exitCode = await main();

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      profile: { type: 'string', default: 'short' },
      seed: { type: 'string' },
      record: { type: 'boolean', default: false },
      again: { type: 'boolean', default: false },
      minutes: { type: 'string' },
    },
  });
  const profile = values.profile as Profile;
  const known = await drills();
  const unknown = positionals.filter((name) => !known.some((drill) => drill.name === name));
  if (!profiles.includes(profile) || unknown.length > 0) {
    const names = known.map((drill) => drill.name).join(', ');
    console.error(`the profile is ${profiles.join(' or ')}; the drills are ${names}`);
    return 2;
  }
  const chosen = known.filter((drill) =>
    positionals.length > 0 ? positionals.includes(drill.name) : drill.profiles.includes(profile),
  );
  const giveUp = performance.now() + Number(values.minutes ?? Number.POSITIVE_INFINITY) * 60_000;
  const wanted = values.minutes === undefined ? chosen : shuffled(chosen);
  const folder = values.record ? join(repository, 'docs/proof') : newFolder('errand-drills-results-');
  mkdirSync(folder, { recursive: true });
  const results: { name: string; verdict: Verdict }[] = [];
  const unsteady: string[] = [];
  const left: string[] = [];
  for (const drill of wanted) {
    if (performance.now() > giveUp) {
      left.push(drill.name);
      continue;
    }
    const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed);
    const began = performance.now();
    const facts = {
      drill: drill.name,
      proves: drill.proves,
      profile,
      seed,
      started_at: new Date().toISOString(),
    };
    console.log(`\n── ${drill.name} (${profile}, seed ${seed}): ${drill.proves}`);
    let verdict = await runApart(drill, profile, seed);
    if (failed(verdict) && values.again) {
      console.log(`── ${drill.name}: ${summary(verdict)}: once more`);
      unsteady.push(drill.name);
      verdict = await runApart(drill, profile, seed);
    }
    const seconds = Math.round((performance.now() - began) / 100) / 10;
    write(join(folder, `${drill.name}.json`), { ...facts, seconds, versions: versions() }, verdict);
    results.push({ name: drill.name, verdict });
    console.log(`── ${drill.name}: ${summary(verdict)} (${seconds} s)`);
  }
  console.log(`\n${results.map(({ name, verdict }) => `${name.padEnd(16)} ${summary(verdict)}`).join('\n')}`);
  if (left.length > 0) console.log(`no time left for: ${left.join(', ')}`);
  if (unsteady.length > 0) console.log(`failed at first, to be mended: ${unsteady.join(', ')}`);
  console.log(`verdicts: ${values.record ? 'docs/proof' : folder}`);
  return results.some(({ verdict }) => failed(verdict)) ? 1 : 0;
}

function shuffled<T>(all: readonly T[]): T[] {
  const keyed = all.map((one) => ({ one, key: randomInt(2 ** 31) }));
  return keyed.sort((a, b) => a.key - b.key).map(({ one }) => one);
}

async function drills(): Promise<Drill[]> {
  const files = readdirSync(here).filter((file) => file.endsWith('.ts') && !notDrills.includes(file));
  const modules = files.sort().map(async (file) => {
    const { drill } = (await import(`./${file}`)) as { drill?: Drill };
    if (drill?.name !== file.slice(0, -3)) throw new Error(`${file} must export a drill of its own name`);
    return drill;
  });
  return Promise.all(modules);
}

/** Runs one drill in a process of its own, so that nothing it leaves behind reaches the next. */
async function runApart(drill: Drill, profile: Profile, seed: number): Promise<Verdict> {
  const folder = newFolder(`errand-drill-${drill.name}-`);
  const answer = join(folder, 'verdict.json');
  const work = join(folder, 'work');
  mkdirSync(work);
  const words = [join(here, 'stage.ts'), drill.name, profile, String(seed), work, answer];
  const child = spawnTied(process.execPath, words, {
    stdio: ['ignore', 'inherit', 'inherit'],
    cwd: repository,
  });
  try {
    const minutes = drill.limit_minutes ?? default_limit_minutes;
    const { gone } = await exitWithin(child, minutes * 60_000);
    if (!gone) {
      child.kill('SIGTERM');
      if (!(await exitWithin(child, 15_000)).gone) child.kill('SIGKILL');
      await exitOf(child);
      return { result: 'FAIL', reason: `had not ended after ${minutes} minutes` };
    }
    return readVerdict(answer) ?? { result: 'FAIL', reason: `ended with ${child.exitCode} and no verdict` };
  } finally {
    remove(folder);
  }
}

function remove(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  } catch (error) {
    // A mount that a drill left behind is a nuisance, not a verdict.
    console.error(`${folder} could not be removed: ${(error as Error).message}`);
  }
}

function readVerdict(file: string): Verdict | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Verdict;
  } catch {
    return undefined;
  }
}

function write(file: string, facts: Written, { versions: more, ...verdict }: Verdict): void {
  const { drill, proves, ...rest } = facts;
  const all = { drill, proves, ...verdict, ...rest, versions: { ...rest.versions, ...more } };
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`);
}

function versions(): Record<string, string> {
  const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));
  const git = spawnSync('git', ['describe', '--always', '--dirty', '--abbrev=12'], {
    cwd: repository,
    encoding: 'utf8',
  });
  return {
    errand: version,
    commit: git.status === 0 ? git.stdout.trim() : 'unknown',
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
  };
}

function failed({ result }: Verdict): boolean {
  return result === 'FAIL' || result === 'VACUOUS';
}

function summary(verdict: Verdict): string {
  return verdict.result === 'PASS' ? 'PASS' : `${verdict.result}: ${verdict.reason}`;
}

function newFolder(prefix: string): string {
  return mkdtempSync(join(tmpdir(), prefix));
}
