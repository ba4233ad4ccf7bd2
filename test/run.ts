// Why this room exists: "npm test" brings up what the test files share (one PostgreSQL with a migrated template, the
// Redis program) before they run in parallel, and takes it down whatever happens.
// Invariants: the exit code is that of the tests; no process and no folder of a run outlives it. With --again (CI) a few
// files that failed are run once more, alone; what fails then has failed, and what passes is named all the same.
// Next room: support/server.ts and support/redis-binary.ts; the tests are in unit, store, http, roles and system.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { exitWithin, tied } from './support/children.ts';
import { findRedis, REDIS_VARIABLE } from './support/redis-binary.ts';
import { openTestServer, SERVER_VARIABLE, type TestServer } from './support/server.ts';

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url));
const FLOORS = ['unit', 'store', 'http', 'roles', 'system'];
// Tests mostly wait (for Postgres, for leases), so more files than cores run at once.
const CONCURRENCY = Math.max(2, availableParallelism() * 2);
const TEST_TIMEOUT_MS = 120_000;
const RUN_LIMIT_MS = 15 * 60_000;
const WARM_UP_LIMIT_MS = 30_000;
const UNIT = join(REPOSITORY, 'test', 'unit', '/');
// More than this is no bad luck.
const MOST_FILES_AGAIN = 3;

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const triesAgain = args.includes('--again');
  const flags = args.filter((arg) => arg.startsWith('--') && arg !== '--again');
  const files = testFiles(args.filter((arg) => !arg.startsWith('--')));
  if (files.length === 0) {
    console.error(
      `no test files match ${args.join(' ') || FLOORS.join(', ')}; name files or folders below test/`,
    );
    return 1;
  }
  let server: TestServer | undefined;
  const interruption = onInterruption();
  const folder = mkdtempSync(join(tmpdir(), 'errand-tests-'));
  // Every file loads most of the program: read and compiled once, it is ready for all others.
  const compiled = { NODE_COMPILE_CACHE: join(folder, 'compiled') };
  try {
    const warm = files.length > CONCURRENCY ? warmUp(compiled) : undefined;
    const redis = await findRedis();
    server = await openTestServer();
    await warm;
    const env = {
      [SERVER_VARIABLE]: JSON.stringify({ url: server.url, template: server.template }),
      [REDIS_VARIABLE]: JSON.stringify(redis),
      ...compiled,
    };
    const run = async (some: string[], atOnce: number) => {
      if (interruption.signal) return { code: 130, failed: [] };
      const list = join(folder, 'failed');
      const child = startTests(some, atOnce, list, flags, env);
      interruption.forwardTo(child);
      const { gone, code } = await exitWithin(child, RUN_LIMIT_MS);
      if (!gone)
        console.error(`the tests did not end within ${RUN_LIMIT_MS / 60_000} minutes and were ended`);
      // Children of a test that was killed share its group.
      killGroup(child, 'SIGKILL');
      const failed = gone ? readList(list) : [];
      if (code === 0 && failed.length > 0)
        console.error(`not all that these files had to report has come: ${failed.join(', ')}`);
      const whole = code === 0 && failed.length > 0 ? 1 : (code ?? 1);
      return { code: interruption.signal ? 130 : whole, failed };
    };
    const { code, failed } = await run(sharing(files, folder), CONCURRENCY);
    for (const line of server.troubles()) console.error(`the test server: ${line}`);
    const few = failed.length > 0 && failed.length <= MOST_FILES_AGAIN && !failed.includes('?');
    if (code !== 1 || !triesAgain || !few) return code;
    console.log(`\nonce more, alone: ${failed.join(', ')}\n`);
    const second = await run(failed, 1);
    const found = second.code === 0 ? 'passed alone: unsteady, to be mended' : 'failed again';
    console.log(`\nfailed among the others and ${found}: ${failed.join(', ')}`);
    return second.code;
  } catch (error) {
    console.error(`the tests cannot run: ${error instanceof Error ? error.message : error}`);
    return 1;
  } finally {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function testFiles(wanted: string[]): string[] {
  const places = wanted.length > 0 ? wanted : FLOORS.map((floor) => join(REPOSITORY, 'test', floor));
  return places.flatMap((place) => {
    // A pattern is for node to expand; it complains itself when nothing matches.
    if (place.includes('*')) return [place];
    const facts = statSync(place, { throwIfNoEntry: false });
    if (!facts?.isDirectory()) return facts ? [place] : [];
    return readdirSync(place, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.test.ts'))
      .sort()
      .map((name) => relative(process.cwd(), join(place, name)));
  });
}

/** To start a process takes longer than what a file of the unit floor does: those come as one that imports them all. */
function sharing(files: string[], folder: string): string[] {
  // A hook at the top of one would be a hook of all.
  const hooks = /^(before|after)(Each)?\(/m;
  const units = files.filter(
    (file) => resolve(file).startsWith(UNIT) && !hooks.test(readFileSync(file, 'utf8')),
  );
  if (units.length < 2) return files;
  const together = join(folder, 'unit.test.mjs');
  writeFileSync(
    together,
    units.map((file) => `import ${JSON.stringify(pathToFileURL(resolve(file)))};\n`).join(''),
  );
  return [together, ...files.filter((file) => !units.includes(file))];
}

/** Compiles most of the program while the server starts, so that the first files need not do it side by side. */
async function warmUp(env: Record<string, string>): Promise<void> {
  const rooms = ['support/serve.ts', 'support/errand.ts'].map((room) => new URL(room, import.meta.url));
  const program = rooms.map((room) => `await import(${JSON.stringify(room)});`).join('');
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: 'ignore',
    env: { ...process.env, ...env },
  });
  // Whatever is wrong with the program is told by its tests.
  if (!(await exitWithin(child, WARM_UP_LIMIT_MS)).gone) child.kill('SIGKILL');
}

function startTests(
  files: string[],
  atOnce: number,
  list: string,
  flags: string[],
  env: Record<string, string>,
): ChildProcess {
  const words = [
    '--test',
    `--import=${new URL('support/whole-reports.ts', import.meta.url)}`,
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${new URL('support/failed-files.ts', import.meta.url)}`,
    `--test-reporter-destination=${list}`,
    `--test-concurrency=${atOnce}`,
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    // A test that timed out leaves its sockets and servers open; without this its file would wait for them for ever.
    '--test-force-exit',
    ...flags,
    ...files,
  ];
  const [command, rest] = tied(process.execPath, words, 'TERM');
  return spawn(command, rest, {
    // A group of its own, so that one signal reaches every test file and what it started.
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
  });
}

/** The files that failed, as a caller would name them. */
function readList(list: string): string[] {
  const lines = readFileSync(list, 'utf8').split('\n').filter(Boolean);
  return [...new Set(lines.map((file) => (file === '?' ? file : relative(process.cwd(), file))))];
}

/** Remembers the first SIGINT or SIGTERM and passes it on; the ordinary way out then cleans up. */
function onInterruption(): { signal: NodeJS.Signals | null; forwardTo(child: ChildProcess): void } {
  let child: ChildProcess | undefined;
  const state = {
    signal: null as NodeJS.Signals | null,
    forwardTo(target: ChildProcess) {
      child = target;
    },
  };
  const interrupt = (signal: NodeJS.Signals) => {
    state.signal = signal;
    if (!child) return;
    const group = child;
    killGroup(group, signal);
    void exitWithin(group, 5_000).then(({ gone }) => gone || killGroup(group, 'SIGKILL'));
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  return state;
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    process.kill(-child.pid!, signal);
  } catch {
    // The group is empty: nothing is left to end.
  }
}
