// Why this room exists: the tests need a real Redis server, and nobody should have to install one for "npm test".
// Invariant: the system is left as it was (no service, no package installed); never a silent skip, always a binary or
// an error that names the remedies.
// Next room: redis.ts, which starts servers from it.
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findProgram } from './children.ts';

export interface RedisBinary {
  path: string;
  /** Folders of shared libraries that came along; empty for a server of the system. */
  libraryPath: string;
}

export const REDIS_VARIABLE = 'ERRAND_TEST_REDIS_SERVER';

const CACHE = fileURLToPath(new URL('../../.cache', import.meta.url));
const run = promisify(execFile);
let found: Promise<RedisBinary> | undefined;

/** Finds a server on PATH, in the cache of an earlier run, or takes it out of the Debian packages. */
export function findRedis(): Promise<RedisBinary> {
  found ??= locate();
  return found;
}

async function locate(): Promise<RedisBinary> {
  const told = process.env[REDIS_VARIABLE];
  if (told) return JSON.parse(told) as RedisBinary;
  const installed = findProgram('redis-server', 'valkey-server');
  if (installed) return { path: installed, libraryPath: '' };
  const place = join(CACHE, 'redis');
  return (await checked(place)) ?? (await extract(place));
}

async function extract(place: string): Promise<RedisBinary> {
  const remedies =
    'install one (sudo apt-get install redis-server, or brew install valkey) and run the tests again';
  if (!findProgram('apt-get') || !findProgram('dpkg-deb')) {
    throw new Error(`the tests need redis-server or valkey-server on PATH; ${remedies}`);
  }
  await mkdir(CACHE, { recursive: true });
  const stage = await mkdtemp(join(CACHE, 'redis.new-'));
  try {
    await download(join(stage, 'debs'));
    await unpack(stage);
    const binary = await publish(stage, place);
    if (binary) return binary;
    throw new Error('the extracted server does not run');
  } catch (error) {
    const message = (error as Error).message.trim().replace(/\s*\n\s*/g, ': ');
    throw new Error(
      `no redis-server on PATH and none could be taken from the Debian packages (${message}); ${remedies}`,
    );
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

/** One rename publishes a whole copy; a copy that a run beside us published meanwhile is left in place. */
async function publish(stage: string, place: string): Promise<RedisBinary | null> {
  const theirs = await checked(place);
  if (theirs) return theirs;
  await rm(place, { recursive: true, force: true });
  await rename(stage, place).catch(() => {});
  return checked(place);
}

async function download(debs: string): Promise<void> {
  await mkdir(join(debs, 'partial'), { recursive: true });
  const fetch = () =>
    run(
      'apt-get',
      [
        ...['install', '-y', '--no-install-recommends', '--download-only'],
        ...['-o', `Dir::Cache::archives=${debs}`, '-o', 'Debug::NoLocking=1', 'redis-server'],
      ],
      { timeout: 180_000 },
    );
  try {
    await fetch();
  } catch {
    // Images often come without a package index, or with one that names versions long gone.
    await run('apt-get', ['update', '-qq'], { timeout: 180_000 });
    await fetch();
  }
}

async function unpack(stage: string): Promise<void> {
  for (const name of await readdir(join(stage, 'debs'))) {
    if (!name.endsWith('.deb')) continue;
    await run('dpkg-deb', ['-x', join(stage, 'debs', name), join(stage, 'root')], { timeout: 60_000 });
  }
  await rm(join(stage, 'debs'), { recursive: true, force: true });
}

/** The server below a folder, if it is there and runs. */
async function checked(place: string): Promise<RedisBinary | null> {
  const root = join(place, 'root');
  const path = join(root, 'usr/bin/redis-server');
  try {
    await access(path);
    const binary = { path, libraryPath: await libraryFolders(root) };
    await run(path, ['--version'], {
      timeout: 10_000,
      env: { ...process.env, LD_LIBRARY_PATH: binary.libraryPath },
    });
    return binary;
  } catch {
    return null;
  }
}

async function libraryFolders(root: string): Promise<string> {
  const folders = new Set<string>();
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    if (/\.so(\.|$)/.test(entry.name)) folders.add(entry.parentPath);
  }
  return [...folders].sort().join(':');
}
