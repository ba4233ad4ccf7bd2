// Why this room exists: an image can be built and run for real without a Docker daemon: buildah builds on a stand-in for the
// base (Debian by debootstrap, the Node of this check-out).
// Invariant: storage, containers and base live in a folder of the caller's and go with it.
// Next room: test/drills/image.ts; jail.ts, which runs an image as Kubernetes does.
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findProgram, spawnTied } from './children.ts';

const base = 'localhost/node:24-bookworm-slim';
const command_limit_ms = 6 * 60_000;

export interface Workshop {
  /** Runs buildah and returns what it printed; throws with its last lines when it fails. */
  buildah(...words: string[]): Promise<string>;
  /** Starts a command in a container. */
  start(container: string, env: Record<string, string>, command: readonly string[]): ChildProcess;
}

/** A place where images are made, in a folder that goes with the drill. */
export function workshop(folder: string): Workshop {
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

/** Makes the stand-in for the base image. */
export async function makeBase({ buildah }: Workshop, folder: string): Promise<void> {
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

export function npmFolder(): string {
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

/** Runs a program to its end, within a limit, and returns what it printed. */
export function command(program: string, words: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
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
