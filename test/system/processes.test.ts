// Several processes behind one port are one service: both answer, one may die or hang, metrics are of both, and a stop waits
// for all. They are told apart by the process id that /health names.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { call } from '../support/caller.ts';
import { exitOf } from '../support/children.ts';
import { loadBooks } from '../support/load-books.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { until } from '../support/until.ts';

const handlers = fileURLToPath(new URL('../support/handlers', import.meta.url));

let database: TestDatabase;
let hanging: Service;
let hungPid: number;
/** What the tests ask in turn, until the last of them stops it. */
let service: Service;

const start = (url: string, env: Record<string, string> = {}) =>
  startService({
    env: {
      DATABASE_URL: url,
      EFFECTS_URL: url,
      ERRAND_PROCESSES: '2',
      ERRAND_HANDLERS_DIR: handlers,
      ERRAND_LEASE_SECONDS: '2',
      ...env,
    },
    // One after the other, on a machine that has other tests to run.
    readyMs: 60_000,
  });

before(async () => {
  database = await cloneDatabase();
  // Its time runs while the other tests do.
  hanging = await start(database.url, { ERRAND_ROLES: 'api' });
  hungPid = (await pidsOf(hanging))[0] as number;
  process.kill(hungPid, 'SIGSTOP');
  service = await start(database.url, { ERRAND_DRAIN_DELAY_SECONDS: '5' });
});

after(async () => {
  await service?.kill9();
  await hanging?.kill9();
  await database.drop();
});

/** The process that answers a connection of its own; null: none did. */
async function pidBehind({ port }: Service): Promise<number | null> {
  const answer = await call(port, { path: '/health', limit_ms: 5_000 });
  if (answer === null) return null;
  const { serviceId } = JSON.parse(answer.body) as { serviceId: string };
  return Number(serviceId.split(':')[1]);
}

/** The processes behind the port, once two have answered. */
async function pidsOf(of: Service): Promise<number[]> {
  const seen = new Set<number>();
  await until(
    async () => {
      const pid = await pidBehind(of);
      if (pid !== null) seen.add(pid);
      return seen.size === 2;
    },
    { timeoutMs: 60_000, what: 'two processes answer' },
  );
  return [...seen];
}

/** Submits a job on a connection of its own, again under its key until it was accepted; answers its id. */
async function submitted({ port }: Service, type: string): Promise<string> {
  const headers = { 'idempotency-key': randomUUID() };
  return until(
    async () => {
      const answer = await call(port, {
        path: '/v1/jobs',
        headers,
        body: { type, payload: 1, max_attempts: 20 },
      });
      return answer?.status === 202 ? (JSON.parse(answer.body) as { id: string }).id : null;
    },
    { timeoutMs: 30_000, what: 'a submit is accepted' },
  );
}

async function metricsOf({ port }: Service): Promise<string> {
  const answer = await call(port, { path: '/metrics', limit_ms: 10_000 });
  assert.equal(answer?.status, 200);
  return answer.body;
}

function sumOf(text: string, metric: string): number {
  const isCounted = (line: string) => line.startsWith(`${metric}{`) && !line.includes('replayed="true"');
  const samples = text.split('\n').filter(isCounted);
  return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

test('both processes answer, and whoever is asked for metrics tells those of both', async () => {
  await pidsOf(service);
  const jobs = 40;
  let done = 0;
  let before = 0;
  const submitting = Promise.all(
    Array.from({ length: 4 }, async () => {
      for (; done < jobs; await submitted(service, 'slot')) done++;
    }),
  );
  let flowing = true;
  void submitting.finally(() => {
    flowing = false;
  });
  while (flowing) {
    const now = sumOf(await metricsOf(service), 'errand_jobs_submitted_total');
    assert.ok(now >= before, `${before} submitted, then ${now}`);
    before = now;
  }
  await submitting;
  const finished = async () => sumOf(await metricsOf(service), 'errand_jobs_finished_total');
  await until(async () => (await finished()) === jobs, { timeoutMs: 60_000 });
  await until(async () => sumOf(await metricsOf(service), 'errand_leader') === 1, { timeoutMs: 60_000 });
  for (let n = 0; n < 10; n++) {
    const text = await metricsOf(service);
    assert.equal(sumOf(text, 'errand_jobs_submitted_total'), jobs);
    assert.equal(sumOf(text, 'errand_jobs_finished_total'), jobs);
    const told = text.split('\n').filter((line) => line.startsWith('# TYPE'));
    assert.equal(new Set(told).size, told.length, 'a metric is described twice');
    const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    const labels = new Set(samples.map((line) => /[{,]process="(\d)"[,}]/.exec(line)?.[1]));
    assert.deepEqual([...labels].sort(), ['1', '2']);
  }
});

test('a caller who demands the result gets it, whichever process runs the job', async () => {
  const headers = { 'errand-expect': '200-ok', prefer: 'wait=25' };
  const answers = await Promise.all(
    Array.from({ length: 20 }, () =>
      call(service.port, {
        path: '/v1/jobs',
        headers,
        body: { type: 'steady', payload: 1 },
        limit_ms: 30_000,
      }),
    ),
  );
  assert.deepEqual(
    answers.map((answer) => `${answer?.status} ${answer?.body}`),
    Array(20).fill('200 1'),
  );
});

test('kill -9 of one process: the other serves on, another follows, and no job is lost', async () => {
  const truth = new pg.Pool({ connectionString: database.url, max: 2 });
  truth.on('error', () => {});
  try {
    const [victim, other] = (await pidsOf(service)) as [number, number];
    const acked = new Set<string>();
    let flowing = true;
    const callers = Promise.all(
      Array.from({ length: 4 }, async () => {
        while (flowing) acked.add(await submitted(service, 'steady'));
      }),
    );
    await until(() => acked.size >= 10, { timeoutMs: 60_000 });
    process.kill(victim, 'SIGKILL');
    const asked = new Set<number | null>();
    await until(
      async () => {
        asked.add(await pidBehind(service));
        return [...asked].some((pid) => pid !== null && pid !== victim && pid !== other);
      },
      { timeoutMs: 60_000, what: 'another process answers' },
    );
    assert.ok(asked.has(other), 'the process that lives did not serve on');
    flowing = false;
    await callers;
    const { lost, acked_not_succeeded } = await loadBooks(truth, acked, 30_000);
    assert.deepEqual([lost, acked_not_succeeded], [[], []]);
    assert.match(service.output(), /"a process ended; another follows","process":\d,"how":"SIGKILL"/);
  } finally {
    await truth.end();
  }
});

test('SIGTERM drains every process, fails no request of callers who notice, and exits 0', async () => {
  const statuses: (number | undefined)[] = [];
  const isReady = async () =>
    (await call(service.port, { path: '/health/ready', limit_ms: 10_000 }))?.status === 200;
  await pidsOf(service);
  const callers = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (await isReady()) {
        const body = { type: 'steady', payload: 1 };
        statuses.push((await call(service.port, { path: '/v1/jobs', body, limit_ms: 20_000 }))?.status);
      }
    }),
  );
  await until(() => statuses.length >= 20, { timeoutMs: 60_000 });
  const code = service.stop('SIGTERM');
  await callers;
  assert.equal(await code, 0, service.output());
  assert.deepEqual([...new Set(statuses)], [202]);
  for (const number of [1, 2])
    assert.equal(service.output().split(`"drained","process":${number}`).length, 2, service.output());
});

test('what keeps every process from starting is told once, and ends the start', async () => {
  const wrong = async (env: Record<string, string>) => {
    const settings = { DATABASE_URL: database.url, ERRAND_PROCESSES: '2', ...env };
    const faulty = await startService({ env: settings, awaitReady: false });
    assert.equal(await exitOf(faulty.child), 1, faulty.output());
    return faulty.output();
  };
  const settings = await wrong({ ERRAND_LEASE_SECONDS: 'soon', ERRAND_ROLES: 'boss' });
  assert.equal(settings.match(/ERRAND_LEASE_SECONDS "soon"/g)?.length, 1, settings);
  assert.equal(settings.match(/ERRAND_ROLES "boss"/g)?.length, 1, settings);
  const handlers = await wrong({ ERRAND_HANDLERS_DIR: '/no/such/folder' });
  assert.equal(handlers.match(/\/no\/such\/folder/g)?.length, 1, handlers);
});

test('when none serves and none can be started any more, the primary ends with the reason', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'errand-processes-'));
  const bare = await start(database.url, { ERRAND_HANDLERS_DIR: folder });
  try {
    const pids = await pidsOf(bare);
    await rm(folder, { recursive: true });
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    assert.equal(await exitOf(bare.child), 1, bare.output());
    assert.match(bare.output(), /no process is left and none can be started: process \d ended at its start/);
  } finally {
    await bare.kill9();
    await rm(folder, { recursive: true, force: true });
  }
});

test('a process that hangs is killed and another follows; meanwhile its neighbour answers', async () => {
  const asked = new Set<number | null>();
  await until(
    async () => {
      const pid = await pidBehind(hanging);
      asked.add(pid);
      return !asked.has(hungPid) && [...asked].filter((one) => one !== null).length === 2;
    },
    { timeoutMs: 90_000, everyMs: 250, what: 'another process answers' },
  );
  assert.match(hanging.output(), /"a process does not answer and is killed"/);
  assert.equal(await hanging.stop(), 0, hanging.output());
});
