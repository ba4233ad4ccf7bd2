// Proves that a pod of the chart is a process that runs: it is started as its manifest says, after the migration; its probes
// answer, the curl of NOTES.txt works, it opens the connections that the chart counts and no others, and it drains.
// Next room: chart.test.ts, which runs this beside what it proves of manifests alone: one file, so that one renderer is made.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { mounted, ofKind, podsOf } from '../support/chart.ts';
import { exitOf } from '../support/children.ts';
import { chart, type EnvVar, type Render } from '../support/helm.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { startService } from '../support/process.ts';
import { onServer } from '../support/server.ts';
import { until } from '../support/until.ts';

const run = promisify(execFile);
const plainCurl = `curl -i http://127.0.0.1:8080/v1/jobs -H 'Content-Type: application/json' -d '{"type":"hello"}'`;

const values = {
  // Beyond loopback it is five seconds, which are not what is proven here.
  drain: { delaySeconds: 0.5 },
  schedules: 'schedules:\n  - {name: yearly, cron: "0 0 1 1 *", job: {type: hello}}\n',
};

/** A container's environment here: its own database, a free port, loopback. */
function environmentHere(env: readonly EnvVar[], url: string): Record<string, string> {
  const told = env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value] as const]));
  const { PORT: _, ...rest } = Object.fromEntries(told);
  return { ...rest, NODE_ENV: 'production', HOST: '127.0.0.1', DATABASE_URL: url, ERRAND_LOG_LEVEL: 'error' };
}

/** Runs a pod of the default values, from its migration to the end of its drain. */
export async function runPod(render: Render, t: TestContext): Promise<void> {
  const { objects, notes } = await render('errand', join(chart, 'ci/default-values.yaml'), values);
  const [job] = podsOf(ofKind(objects, 'Job')).flatMap(({ spec }) => spec.containers);
  const [container] = podsOf(ofKind(objects, 'Deployment')).flatMap(({ spec }) => spec.containers);
  assert.ok(job?.command !== undefined && container !== undefined);
  const database = await cloneDatabase();
  t.after(() => database.drop());

  const migration = await startService({
    env: environmentHere(job.env, database.url),
    args: job.command.slice(2),
    awaitReady: false,
  });
  assert.equal(await exitOf(migration.child), 0, migration.output());

  const folder = await mkdtemp(join(tmpdir(), 'errand-pod-'));
  t.after(() => rm(folder, { recursive: true }));
  const env = environmentHere(container.env, database.url);
  const file = join(folder, 'schedules.yaml');
  await writeFile(file, mounted(env.ERRAND_SCHEDULES_FILE ?? '', container, objects));
  const service = await startService({ env: { ...env, ERRAND_SCHEDULES_FILE: file } });
  t.after(() => service.kill9());
  for (const probe of [container.startupProbe, container.readinessProbe, container.livenessProbe])
    assert.equal((await fetch(`${service.url}${probe.httpGet.path}`)).status, 200);
  assert.equal((await fetch(`${service.url}/v1/schedules/yearly`)).status, 200);

  // helm tells the notes only where it installs.
  const curl = notes === null ? plainCurl : /^ +(curl -i http:\/\/127\.0\.0\.1:8080.*)$/m.exec(notes)?.[1];
  assert.ok(curl !== undefined, 'NOTES.txt shows a curl');
  const { stdout } = await run('bash', ['-c', curl.replace('http://127.0.0.1:8080', service.url)]);
  assert.match(stdout, /^HTTP\/1.1 202 Accepted\r\n/);

  const budget: Record<string, number> = {
    'errand engine': Number(env.ERRAND_ENGINE_CONNECTIONS),
    'errand intake': Number(env.ERRAND_INTAKE_CONNECTIONS),
    'errand listen': 1,
    'errand office': 2,
    'errand read': Number(env.ERRAND_READ_CONNECTIONS),
  };
  const opened = await until(
    async () => {
      const found = await connectionsOf(database.url);
      return found.length >= Object.keys(budget).length ? found : undefined;
    },
    { timeoutMs: 10_000, what: 'a connection of every pool' },
  );
  assert.deepEqual(
    opened.map(({ name }) => name),
    Object.keys(budget),
  );
  for (const { name, count } of opened) assert.ok(count <= (budget[name] ?? 0), `${count} of ${name}`);

  assert.equal(await service.stop(), 0);
}

function connectionsOf(url: string): Promise<{ name: string; count: number }[]> {
  return onServer(url, async (client) => {
    const { rows } = await client.query<{ name: string; count: number }>(
      `select application_name as name, count(*)::int as count from pg_stat_activity
       where datname = current_database() and application_name like 'errand %' group by 1 order by 1`,
    );
    return rows;
  });
}
