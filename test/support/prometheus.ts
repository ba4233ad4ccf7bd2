// Why this room exists: whether a Prometheus can use what we serve is only known by one that scrapes it, and whether the
// names are right is for promtool to say.
// Invariant: loopback only, data in a folder of the caller's, nothing outlives `stop`.
// Next room: test/drills/prometheus.ts.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../src/embedded/server.ts';
import { exitOf, exitWithin, findProgram, spawnTied } from './children.ts';
import { environmentOf, fromDebian, type Program, versionOf } from './debian.ts';
import { until } from './until.ts';

export interface Prometheus {
  version: string;
  /** The samples of an instant query: their labels, and the value. */
  query(expression: string): Promise<{ labels: Record<string, string>; value: number }[]>;
  /** What promtool says of a page of metrics; empty: nothing. */
  check(text: string): string;
  stop(): Promise<void>;
}

interface Result {
  data: { result: { metric: Record<string, string>; value: [number, string] }[] };
}

/** Starts one that scrapes these ports every second; throws the reason when the programs are not to be had. */
export async function startPrometheus(folder: string, ports: readonly number[]): Promise<Prometheus> {
  const [server, tool] = [await find('prometheus'), await find('promtool')];
  const port = await freePort();
  const file = join(folder, 'prometheus.yml');
  const targets = ports.map((one) => `127.0.0.1:${one}`);
  // JSON is YAML.
  writeFileSync(
    file,
    JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s' },
      scrape_configs: [{ job_name: 'errand', static_configs: [{ targets }] }],
    }),
  );
  const checked = spawnSync(tool.path, ['check', 'config', file], {
    encoding: 'utf8',
    env: environmentOf(tool),
  });
  if (checked.status !== 0) throw new Error(`promtool refuses our configuration: ${checked.stderr}`);
  const words = [
    `--config.file=${file}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
  ];
  const child = spawnTied(server.path, words, { env: environmentOf(server), stdio: 'ignore' });
  const url = `http://127.0.0.1:${port}`;
  await until(async () => (await fetch(`${url}/-/ready`)).ok, { timeoutMs: 30_000, everyMs: 100 });
  return {
    version: /version (\S+)/.exec(await versionOf(server, '--version'))?.[1] ?? 'unknown',
    async query(expression) {
      const answer = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`);
      const { data } = (await answer.json()) as Result;
      return data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
    },
    check(text) {
      const told = spawnSync(tool.path, ['check', 'metrics'], {
        input: text,
        encoding: 'utf8',
        env: environmentOf(tool),
      });
      return `${told.stdout}${told.stderr}${told.status === 0 ? '' : `exit code ${told.status}`}`.trim();
    },
    async stop() {
      child.kill('SIGTERM');
      if (!(await exitWithin(child, 10_000)).gone) child.kill('SIGKILL');
      await exitOf(child);
    },
  };
}

async function find(name: string): Promise<Program> {
  const installed = findProgram(name);
  if (installed !== null) return { path: installed, libraryPath: '' };
  return fromDebian({ name: 'prometheus', path: `usr/bin/${name}`, version: '--version' });
}
