// Why this room exists: tests and drills need real servers (Redis, proxies), and nobody should have to install one.
// Invariant: the system is left as it was (no service started, no package installed); a program that is handed out
// has run once, so what comes after is not about a missing library.
// Next room: redis-binary.ts and reverse-proxies.ts, which say what they need.
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findProgram } from './children.ts';

/** A program of a Debian package. */
export interface Packaged {
  /** The package; also the name of its folder in the cache. */
  name: string;
  /** Where the program lies in the package. */
  path: string;
  /** The word that makes it tell its version and end. */
  version: string;
}

export interface Program {
  path: string;
  /** Folders of shared libraries that came along; empty for a program of the system. */
  libraryPath: string;
}

const CACHE = fileURLToPath(new URL('../../.cache', import.meta.url));
const run = promisify(execFile);

/** Takes a program out of its package and those it depends on, or from the cache of an earlier run; throws why not. */
export async function fromDebian(packaged: Packaged): Promise<Program> {
  return (await checked(packaged, placeOf(packaged))) ?? (await extract(packaged));
}

/** A folder with what packages hold, and those they depend on: libraries to build with. Throws why not. */
export async function librariesFromDebian(name: string, packages: readonly string[]): Promise<string> {
  const place = join(CACHE, name);
  const root = join(place, 'root');
  const there = await access(root).then(
    () => true,
    () => false,
  );
  if (there) return root;
  await inStage(name, async (stage) => {
    await download(packages, join(stage, 'debs'));
    await unpack(stage);
    await rename(stage, place).catch(() => {});
    await access(root);
  });
  return root;
}

/** The environment a program runs in. */
export function environmentOf({ libraryPath }: Program): NodeJS.ProcessEnv {
  return libraryPath === '' ? process.env : { ...process.env, LD_LIBRARY_PATH: libraryPath };
}

/** What a program says of its version. */
export async function versionOf(program: Program, word: string): Promise<string> {
  const { stdout, stderr } = await run(program.path, [word], {
    timeout: 10_000,
    env: environmentOf(program),
  });
  return `${stdout}${stderr}`.trim();
}

function placeOf({ name }: Packaged): string {
  return join(CACHE, name);
}

function extract(packaged: Packaged): Promise<Program> {
  return inStage(packaged.name, async (stage) => {
    await download([packaged.name], join(stage, 'debs'));
    await unpack(stage);
    const program = await publish(packaged, stage);
    if (program) return program;
    throw new Error('the extracted program does not run');
  });
}

/** Works in a folder of the cache that goes with the work, whatever comes of it. */
async function inStage<T>(name: string, work: (stage: string) => Promise<T>): Promise<T> {
  if (!findProgram('apt-get') || !findProgram('dpkg-deb')) throw new Error('there is no apt-get here');
  await mkdir(CACHE, { recursive: true });
  const stage = await mkdtemp(join(CACHE, `${name}.new-`));
  try {
    return await work(stage);
  } catch (error) {
    const message = (error as Error).message.trim().replace(/\s*\n\s*/g, ': ');
    throw new Error(`${name} could not be taken from the Debian packages (${message})`);
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

/** One rename publishes a whole copy; a copy that a run beside us published meanwhile is left in place. */
async function publish(packaged: Packaged, stage: string): Promise<Program | null> {
  const place = placeOf(packaged);
  const theirs = await checked(packaged, place);
  if (theirs) return theirs;
  await rm(place, { recursive: true, force: true });
  await rename(stage, place).catch(() => {});
  return checked(packaged, place);
}

async function download(names: readonly string[], debs: string): Promise<void> {
  await mkdir(join(debs, 'partial'), { recursive: true });
  const fetch = () =>
    run(
      'apt-get',
      [
        ...['install', '-y', '--no-install-recommends', '--download-only'],
        ...['-o', `Dir::Cache::archives=${debs}`, '-o', 'Debug::NoLocking=1', ...names],
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

/** The program below a folder, if it is there and runs. */
async function checked(packaged: Packaged, place: string): Promise<Program | null> {
  const root = join(place, 'root');
  const path = join(root, packaged.path);
  try {
    await access(path);
    const program = { path, libraryPath: await libraryFolders(root) };
    await versionOf(program, packaged.version);
    return program;
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
