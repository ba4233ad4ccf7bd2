// Why this room exists: an example that does not work is worse than none, so all of them run here, against a real service.
// Next room: pull-workers.test.ts, where the pull workers are; import.test.ts, where the Python worker meets kill -9.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { exitWithin, findProgram, spawnTied } from '../support/children.ts';
import { programIn } from '../support/guides.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { neutralEnvironment, type Service, startService } from '../support/process.ts';
import { until } from '../support/until.ts';

const GUIDES = fileURLToPath(new URL('../../docs/guides/', import.meta.url));
const CACHE = fileURLToPath(new URL('../../.cache/', import.meta.url));
const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url));
let database: TestDatabase;
let service: Service;
/** In the test mode, on a database of its own. */
let movableDatabase: TestDatabase;
let movable: Service;

before(async () => {
  database = await cloneDatabase();
  service = await startService({
    env: { DATABASE_URL: database.url, ERRAND_HANDLERS_DIR: `${EXAMPLES}handlers` },
  });
  movableDatabase = await cloneDatabase();
  movable = await startService({ env: { DATABASE_URL: movableDatabase.url, ERRAND_TEST_CLOCK: 'true' } });
});

after(async () => {
  await service?.stop();
  await movable?.stop();
  await database?.drop();
  await movableDatabase?.drop();
});

describe('README.md', { skip: missing('bash', 'curl') }, () => {
  // First of all: its first job has the id 1.
  test('shows commands that work and answers that come, one after the other', () => {
    const page = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
    // Whoever types takes longer than a job.
    const patient = page.replaceAll(/^(curl .*\/status)$/gm, "$1 -H 'Prefer: wait=10'");
    return followed('README.md', patient, service);
  });
});

describe('curl.sh', { skip: missing('bash', 'curl') }, () => {
  test('gets every answer it promises, and can be run again', async () => {
    for (const _ of ['first', 'second']) {
      const { code, output } = await run('bash', [`${EXAMPLES}curl.sh`], { ERRAND_URL: service.url });
      assert.equal(code, 0, output);
      assert.match(output, /< 303 {2}Location: \/v1\/jobs\/\d+\/result\n/);
      assert.match(output, /< 200\n\[1,2,3\]\n/);
      assert.match(output, /Done: everything was as promised/);
      assert.doesNotMatch(output, /not as promised/);
    }
  });

  test('ends with an exit code other than 0 when nobody listens', async () => {
    const { code, output } = await run('bash', [`${EXAMPLES}curl.sh`], { ERRAND_URL: 'http://127.0.0.1:1' });
    assert.notEqual(code, 0);
    assert.match(output, /127\.0\.0\.1/);
  });
});

describe('clock.sh', { skip: missing('bash', 'curl') }, () => {
  test('passes days of a job and of a schedule, and can be run again', async () => {
    for (const _ of ['first', 'second']) {
      const { code, output } = await run('bash', [`${EXAMPLES}clock.sh`], { ERRAND_URL: movable.url });
      assert.equal(code, 0, output);
      assert.match(output, /after a day: queued\n.*\nafter its worker .*: queued\n/);
      assert.match(output, /on time, .*: 1\n.*skipped .*: 2\n.*caught up: 1\n/);
      assert.match(output, /Done: everything was as promised/);
    }
  });

  test('fails where the clock cannot be moved', async () => {
    const { code } = await run('bash', [`${EXAMPLES}clock.sh`], { ERRAND_URL: service.url });
    assert.notEqual(code, 0);
  });
});

describe('the handler checksum', () => {
  test('answers a demand with the checksum of the text', async () => {
    const text = 'errand';
    const answer = await demand('checksum', { text });
    assert.equal(answer.status, 200);
    const { checksum, epoch } = (await answer.json()) as { checksum: string; epoch: number };
    assert.equal(checksum, createHash('sha256').update(text).digest('hex'));
    assert.equal(epoch, 1);
  });

  test('calls what will never be right permanent, so it is dead after one attempt', async () => {
    for (const payload of [
      null,
      {},
      { text: 1 },
      { text: '', algorithm: 'rot13' },
      { text: '', rounds: 0 },
    ]) {
      const answer = await demand('checksum', payload);
      assert.equal(answer.status, 422, JSON.stringify(payload));
      const problem = (await answer.json()) as {
        code: string;
        detail: string;
        job: { state: string; error: { class: string; source: string } };
      };
      assert.equal(problem.code, 'job-failed');
      assert.match(problem.detail, /payload\./);
      assert.deepEqual([problem.job.state, problem.job.error.class], ['dead', 'permanent']);
      assert.equal(problem.job.error.source, 'handler');
    }
  });

  test('shows how far it is, and stops soon when its job is cancelled', async () => {
    const running = await submit('checksum', { text: 'errand', rounds: 50_000_000 });
    const { progress } = await until(async () => {
      const record = (await (await fetch(`${service.url}${running}`)).json()) as Shown;
      return record.progress === null ? null : record;
    });
    assert.equal(progress?.total, 50_000_000);
    // 202: it has been asked to stop; 200: it has stopped meanwhile.
    assert.ok([200, 202].includes(await cancel(running)));
    await reaches(running, 'cancelled');
  });

  test('brings the right checksum of many rounds, past a checkpoint', async () => {
    const answer = await demand('checksum', { text: 'errand', rounds: 120_000 });
    const { checksum } = (await answer.json()) as { checksum: string };
    let digest = createHash('sha256').update('errand').digest();
    for (let round = 1; round < 120_000; round++) digest = createHash('sha256').update(digest).digest();
    assert.equal(checksum, digest.toString('hex'));
  });
});

interface Shown {
  progress: { current: number; total: number } | null;
}

describe('watch.py', { skip: missing('python3') }, () => {
  test('prints each step of a job once, also when it begins late, and ends with it', async () => {
    const path = await submit('checksum', { text: 'a' }, { delay_seconds: 0.5 });
    const id = path.split('/').at(-1) as string;
    for (const _ of ['while it waits', 'when it has ended']) {
      const { code, output } = await run('python3', [`${EXAMPLES}watch.py`, id], { ERRAND_URL: service.url });
      assert.equal(code, 0, output);
      const steps = output.split('\n').filter((line) => line !== '');
      assert.deepEqual(
        steps.map((line) => line.replace(/ \{"state": "(\w+)".*/, ' $1')),
        ['state scheduled', 'state running', 'done succeeded'],
      );
    }
  });

  test('says so when there is no such job', async () => {
    const { code, output } = await run('python3', [`${EXAMPLES}watch.py`, '999999999'], {
      ERRAND_URL: service.url,
    });
    assert.notEqual(code, 0);
    assert.match(output, /404/);
  });
});

describe('the guides', { skip: missing('bash', 'curl') }, () => {
  const showCommands = (guide: string) => /^```sh$/m.test(readFileSync(GUIDES + guide, 'utf8'));
  for (const guide of readdirSync(GUIDES).filter(showCommands)) {
    test(`${guide} shows commands that work and answers that come`, () =>
      followed(guide, readFileSync(GUIDES + guide, 'utf8'), guide === 'testing.md' ? movable : service));
  }

  test('handlers.md shows a handler that can be put into a folder and is served', async (t) => {
    const page = readFileSync(`${GUIDES}handlers.md`, 'utf8');
    const [, module = ''] = /^```ts\n(.*?)^```/ms.exec(page) ?? [];
    // Inside the repository, as the page says: only there "errand" is found.
    await mkdir(CACHE, { recursive: true });
    const folder = await mkdtemp(join(CACHE, 'guide-'));
    t.after(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, 'greet.ts'), module);
    const other = await startService({
      env: { DATABASE_URL: database.url, ERRAND_HANDLERS_DIR: folder },
    });
    t.after(() => other.stop());
    const [right, wrong] = await Promise.all([
      demand('greet', { name: 'you' }, other.url),
      demand('greet', null, other.url),
    ]);
    assert.deepEqual([right.status, await right.json()], [200, { greeting: 'hello, you' }]);
    assert.equal(wrong.status, 422);
  });

  for (const [language, program, skip] of [
    ['py', 'python3', missing('python3')],
    ['ts', process.execPath, false],
  ] as const)
    test(`languages.md shows a program in ${language} that prints what it says`, { skip }, async () => {
      const { source, prints } = programIn('languages.md', language);
      const folder = await mkdtemp(join(tmpdir(), 'errand-guide-'));
      const file = join(folder, `guide.${language}`);
      await writeFile(file, source.replaceAll('http://127.0.0.1:8080', service.url));
      const { code, output } = await run(program, [file], {});
      await rm(folder, { recursive: true });
      assert.deepEqual([code, output], [0, prints]);
    });
});

/** Runs what a page says, in its order, and holds what is printed against what the page shows. */
async function followed(name: string, page: string, { url }: Service): Promise<void> {
  const steps = stepsOf(page.replaceAll('http://127.0.0.1:8080', url));
  assert.ok(steps.length > 0);
  // One shell for the whole page: later commands use what earlier ones have set. -s: no progress meter, this is no terminal.
  const quiet = 'curl() { command curl -s "$@"; }\n';
  const script = steps.map(({ command }, n) => `${command}\necho "${mark(n)}"`).join('\n');
  const folder = await mkdtemp(join(tmpdir(), 'errand-guide-'));
  const { code, output } = await run('bash', ['-euc', quiet + script], {}, folder);
  await rm(folder, { recursive: true });
  assert.equal(code, 0, output);
  let from = 0;
  for (const [n, { answer }] of steps.entries()) {
    const to = output.indexOf(mark(n));
    let printed = output.slice(from, to).replaceAll('\r', '');
    from = to;
    for (const line of answer) {
      const found = asPattern(line).exec(printed);
      assert.ok(
        found,
        `${name}, command ${n + 1} should print, next:\n${line}\nbut what is left is:\n${printed}`,
      );
      printed = printed.slice(found.index + found[0].length);
    }
  }
}

const mark = (n: number) => `--- end of command ${n + 1} ---`;

/** The blocks marked `sh`, each with the lines of the block with an answer that follows it. */
function stepsOf(page: string): { command: string; answer: string[] }[] {
  const blocks = page.matchAll(/^```sh\n(.*?)^```\n(?:\n?```(?:http|json)\n(.*?)^```\n)?/gms);
  return [...blocks]
    .map(([, command = '', answer = '']) => ({
      command,
      answer: answer.split('\n').filter((line) => line !== ''),
    }))
    .filter(({ command }) => !/\bnpm\b/.test(command));
}

/** Ids and times differ from run to run, and … stands for anything. */
function asPattern(line: string): RegExp {
  const quoted = line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const exact = /^HTTP/.test(line) ? quoted : quoted.replace(/\d+/g, '\\d+');
  return new RegExp(exact.replaceAll('…', '.*'), 'i');
}

interface Running {
  child: ChildProcess;
  output(): string;
}

function start(command: string, args: readonly string[], env: Record<string, string>, cwd?: string): Running {
  const child = spawnTied(command, args, {
    ...(cwd === undefined ? {} : { cwd }),
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...neutralEnvironment(process.env), no_proxy: '127.0.0.1', ...env },
  });
  let printed = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
  }
  return { child, output: () => printed };
}

async function run(command: string, args: readonly string[], env: Record<string, string>, cwd?: string) {
  const { child, output } = start(command, args, env, cwd);
  const { gone, code } = await exitWithin(child, 60_000);
  assert.ok(gone, output());
  return { code, output: output() };
}

interface JobRecord {
  state: string;
  attempt: number;
  epoch: number;
  error: { class: string; source: string; detail: string } | null;
}

/** Answers with the path of the job. */
async function submit(
  type: string,
  payload: unknown,
  options: object = {},
  url = service.url,
): Promise<string> {
  const answer = await fetch(`${url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type, payload, ...options }),
  });
  const text = await answer.text();
  assert.equal(answer.status, 202, text);
  return answer.headers.get('content-location') as string;
}

function demand(type: string, payload: unknown, url = service.url): Promise<Response> {
  return fetch(`${url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'errand-expect': '200-ok' },
    body: JSON.stringify({ type, payload }),
  });
}

async function cancel(job: string): Promise<number> {
  const answer = await fetch(`${service.url}${job}/cancel`, { method: 'POST' });
  await answer.body?.cancel();
  return answer.status;
}

async function reaches(job: string, state: string): Promise<JobRecord> {
  let last: JobRecord | undefined;
  const reached = async () => {
    last = (await (await fetch(service.url + job)).json()) as JobRecord;
    return last.state === state;
  };
  try {
    await until(reached, { what: `${job} is ${state}`, timeoutMs: 20_000, everyMs: 50 });
  } catch (error) {
    throw new Error(`${(error as Error).message}; the record is ${JSON.stringify(last)}`);
  }
  return last as JobRecord;
}

/** The reason to skip where a program is missing: nobody should have to install one for "npm test". */
function missing(...programs: string[]): string | false {
  const absent = programs.filter((program) => findProgram(program) === null);
  return absent.length > 0 && `not on PATH: ${absent.join(', ')}`;
}
