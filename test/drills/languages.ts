// Drill: the pull workers of examples/ in bash, Python, TypeScript and Go are held to one table of promises, each as a
// process against a real service; and the program in Go that a guide shows prints what the guide says.
// Next room: test/support/conformance.ts, the table; test/support/go.ts, the compiler.
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Case, cases } from '../support/conformance.ts';
import { versionOf } from '../support/debian.ts';
import { findGo, type Go } from '../support/go.ts';
import { programIn } from '../support/guides.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { startService } from '../support/process.ts';
import { exampleFile, scripts } from '../support/pull-programs.ts';
import type { Drill, Figures } from './drill.ts';

/** Cases that run beside each other. */
const together = 4;

export const drill: Drill = {
  name: 'languages',
  proves:
    'pull workers in bash, Python, TypeScript and Go, written from the documentation, keep the same promises',
  profiles: ['short', 'long'],
  limit_minutes: 8,
  async run({ folder, say }) {
    let go: Go;
    try {
      go = await findGo(folder);
    } catch (error) {
      return { result: 'NOT RUN', reason: `there is no Go here: ${(error as Error).message}` };
    }
    const absent = scripts.flatMap(({ name, skip }) => (skip ? [`${name}: ${skip}`] : []));
    if (absent.length > 0) return { result: 'NOT RUN', reason: absent.join('; ') };
    const compiled = join(folder, 'worker');
    await go.build(exampleFile('worker.go'), compiled);
    say(`worker.go is compiled (${go.version})`);
    const database = await cloneDatabase();
    const service = await startService({
      env: {
        DATABASE_URL: database.url,
        ERRAND_HANDLERS_DIR: exampleFile('handlers'),
        ERRAND_LOG_LEVEL: 'error',
      },
    });
    try {
      const faults = await guideFaults(go, service.url, folder);
      const figures: Figures = {};
      for (const program of [...scripts, { name: 'worker.go', words: [compiled] }]) {
        const bench = { program, service, databaseUrl: database.url, folder };
        const broken = await brokenPromises(({ prove }) => prove(bench));
        figures[program.name] = cases.length - broken.length;
        say(`${program.name}: ${cases.length - broken.length} of ${cases.length}`);
        faults.push(...broken.map((fault) => `${program.name}: ${fault}`));
      }
      const versions = { go: go.version, ...(await versionsOfScripts()) };
      if (faults.length > 0) return { result: 'FAIL', reason: faults.join('\n'), figures, versions };
      return { result: 'PASS', figures: { ...figures, promises: cases.length }, versions };
    } finally {
      await service.kill9();
      await database.drop();
    }
  },
};

/** What is wrong with the program in Go of the guide. */
async function guideFaults(go: Go, url: string, folder: string): Promise<string[]> {
  const { source, prints } = programIn('languages.md', 'go');
  const file = join(folder, 'guide.go');
  await writeFile(file, source.replaceAll('http://127.0.0.1:8080', url));
  await go.build(file, join(folder, 'guide'));
  const { stdout } = await promisify(execFile)(join(folder, 'guide'), [], { timeout: 60_000 });
  return stdout === prints ? [] : [`the program of languages.md printed:\n${stdout}`];
}

/** Proves all cases, a few at a time; what was broken, and how. */
async function brokenPromises(prove: (one: Case) => Promise<void>): Promise<string[]> {
  const open = [...cases];
  const broken: string[] = [];
  const next = async (): Promise<void> => {
    for (let one = open.shift(); one; one = open.shift()) {
      const { name } = one;
      await prove(one).catch((error: Error) => broken.push(`${name}: ${error.message}`));
    }
  };
  await Promise.all(Array.from({ length: together }, next));
  return broken;
}

async function versionsOfScripts(): Promise<Record<string, string>> {
  const first = async (path: string) =>
    (await versionOf({ path, libraryPath: '' }, '--version')).split('\n')[0];
  return {
    bash: (await first('bash')) ?? '',
    python: (await first('python3')) ?? '',
    curl: (await first('curl'))?.split(' ')[1] ?? '',
  };
}
