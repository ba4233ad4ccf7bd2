// Why this room exists: the import of the cities under kill -9 runs twice, small in "npm test" and whole as a drill.
// Invariant: every kill happens while the application is in the middle of a slice for a worker that never hears the end of
// it: the worst moment there is. `interrupted` counts these; a kill without one proves nothing, and the caller must say so.
// Next room: examples/import, whose programs run here as a user starts them.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import { freePort } from '../../src/embedded/server.ts';
import { exitOf, exitWithin, findProgram, spawnTied } from '../support/children.ts';
import { neutralEnvironment, type Service, startService } from '../support/process.ts';
import { until } from '../support/until.ts';

export interface ImportPlan {
  /** Database of the service, migrated, and the application's own. */
  databaseUrl: string;
  appDatabaseUrl: string;
  /** How many cities; absent: all. */
  cities?: number;
  /** Cities per job. */
  slice: number;
  /** Shares of the cities (0 to 1, growing) at which service and worker are killed. */
  kills: readonly number[];
  limitMs: number;
}

export interface ImportFacts {
  cities: number;
  slices: number;
  /** Cities in the table at each kill. */
  at_kill: number[];
  /** Slices the application was in the middle of at each kill. */
  interrupted: number[];
  /** Slices the application was sent more than once. */
  repeated: number;
  import_ms: number;
  /** What verify.ts printed. */
  verdict: string;
}

/** The Python interpreter, or null where there is none. */
export const python: string | null = findProgram('python3');

const EXAMPLES = fileURLToPath(new URL('../../examples/import/', import.meta.url));
const LEASE_SECONDS = '2';

/** Runs the example with its kills; throws unless it ends with exactly the data set in the table. */
export async function runImport(plan: ImportPlan): Promise<ImportFacts> {
  const began = performance.now();
  const left = () => Math.max(1_000, plan.limitMs - (performance.now() - began));
  const cities = plan.cities === undefined ? {} : { CITIES: String(plan.cities) };
  const port = String(await freePort());
  const serve = () =>
    startService({
      env: { DATABASE_URL: plan.databaseUrl, PORT: port, ERRAND_LEASE_SECONDS: LEASE_SECONDS },
    });
  const programs: Program[] = [];
  const run = (command: string, file: string, env: Record<string, string>) => {
    const program = start(command, EXAMPLES + file, env);
    programs.push(program);
    return program;
  };
  const table = new Client({ connectionString: plan.appDatabaseUrl });
  let service: Service | undefined;
  try {
    service = await serve();
    const app = run(process.execPath, 'app.ts', { DATABASE_URL: plan.appDatabaseUrl, PORT: '0' });
    const appUrl = await app.says(/listens on (http:\S+)/);
    await table.connect();
    const work = () =>
      run(python as string, 'import_cities.py', {
        ERRAND_URL: `http://127.0.0.1:${port}`,
        APP_URL: appUrl,
        LEASE_SECONDS,
      });
    let worker = work();
    const submit = run(process.execPath, 'submit.ts', {
      ERRAND_URL: `http://127.0.0.1:${port}`,
      SLICE: String(plan.slice),
      ...cities,
    });
    const slices = Number(await submit.says(/submitting (\d+) slices/));
    const total = plan.cities ?? Number.NaN;
    const goal = Number.isNaN(total) ? slices * plan.slice : total;

    const facts: ImportFacts = {
      cities: 0,
      slices,
      at_kill: [],
      interrupted: [],
      repeated: 0,
      import_ms: 0,
      verdict: '',
    };
    for (const share of plan.kills) {
      await untilTaken(table, goal * share, left(), worker, submit);
      const { taken, interrupted } = await freezeInMidSlice(table, async () => {
        await Promise.all([service?.kill9(), worker.kill9()]);
      });
      facts.at_kill.push(taken);
      facts.interrupted.push(interrupted);
      service = await serve();
      worker = work();
    }
    const ended = await exitWithin(submit.child, left());
    facts.import_ms = Math.round(performance.now() - began);
    assert.ok(ended.gone, `the import did not end in time; ${submit.output()}\n${worker.output()}`);
    assert.equal(ended.code, 0, `${submit.output()}\n${worker.output()}`);

    const verify = run(process.execPath, 'verify.ts', { DATABASE_URL: plan.appDatabaseUrl, ...cities });
    const { code } = await exitWithin(verify.child, left());
    facts.verdict = verify.output();
    assert.equal(code, 0, facts.verdict);
    const { rows } = await table.query<{ cities: string; repeated: string }>(
      `select (select count(*) from atlas.city) as cities,
              (select count(*) from atlas.slice where calls > 1) as repeated`,
    );
    facts.cities = Number(rows[0]?.cities);
    facts.repeated = Number(rows[0]?.repeated);
    worker.child.kill('SIGTERM');
    assert.deepEqual(await exitWithin(worker.child, 10_000), { gone: true, code: 0 }, worker.output());
    return facts;
  } finally {
    await table.end().catch(() => {});
    await service?.stop();
    await Promise.all(programs.map((program) => program.kill9()));
  }
}

interface Program {
  child: ChildProcess;
  output(): string;
  /** The first group of the first line that matches. */
  says(pattern: RegExp): Promise<string>;
  kill9(): Promise<void>;
}

function start(command: string, file: string, env: Record<string, string>): Program {
  const child = spawnTied(command, [file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...neutralEnvironment(process.env), no_proxy: '127.0.0.1', ...env },
  });
  const lines: string[] = [];
  for (const stream of [child.stdout!, child.stderr!]) {
    createInterface({ input: stream }).on('line', (line) => lines.push(line));
  }
  return {
    child,
    output: () => lines.slice(-40).join('\n'),
    says: (pattern) =>
      until(() => lines.map((line) => pattern.exec(line)?.[1]).find((word) => word !== undefined), {
        what: `${file} says ${pattern}`,
        timeoutMs: 20_000,
      }),
    async kill9() {
      child.kill('SIGKILL');
      await exitOf(child);
    },
  };
}

async function untilTaken(
  table: Client,
  goal: number,
  timeoutMs: number,
  worker: Program,
  submit: Program,
): Promise<void> {
  try {
    await until(async () => (await taken(table)) >= goal, {
      timeoutMs,
      everyMs: 5,
      what: `${goal} cities are in the table`,
    });
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${submit.output()}\n${worker.output()}`);
  }
}

/** Holds the application in the middle of its transactions while `kill` runs; afterwards they commit, unheard. */
async function freezeInMidSlice(
  table: Client,
  kill: () => Promise<void>,
): Promise<{ taken: number; interrupted: number }> {
  await table.query('begin');
  await table.query('lock table atlas.slice in exclusive mode');
  const count = await taken(table);
  const interrupted = await until(() => waitingForTheTable(table), {
    what: 'the application is in mid-slice',
  });
  await kill();
  await table.query('rollback');
  return { taken: count, interrupted };
}

async function taken(table: Client): Promise<number> {
  const { rows } = await table.query<{ count: string }>('select count(*) from atlas.city');
  return Number(rows[0]?.count);
}

async function waitingForTheTable(table: Client): Promise<number> {
  const { rows } = await table.query<{ count: string }>(
    `select count(*) from pg_locks where relation = 'atlas.slice'::regclass and not granted`,
  );
  return Number(rows[0]?.count);
}
