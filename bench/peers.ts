// What Errand is compared with: installed in bench/peers/ under a lockfile of its own, so nobody who builds Errand pays
// for it. Loaded by name and typed where it is used, because a check-out without it must compile.
// Invariant: what runs is what peers/package.json says, to the last digit.
// Next room: contestants/, one file for each of them.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

export type PeerName = 'bullmq' | 'graphile-worker' | 'pg-boss';

const folder = fileURLToPath(new URL('./peers', import.meta.url));
const resolver = createRequire(`${folder}/package.json`);

/**
 * Installs the peers where something is missing or of another version; throws when that fails. Not `npm ci`: it wants the
 * builds of one of their dependencies for every platform in the lockfile, and no registry need have them all.
 */
export async function installPeers(say: (line: string) => void): Promise<void> {
  const { dependencies } = read(`${folder}/package.json`) as { dependencies: Record<string, string> };
  const isThere = ([name, version]: [string, string]) => installed(name) === version;
  if (Object.entries(dependencies).every(isThere)) return;
  say('installing the peers in bench/peers');
  const words = ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund'];
  const { status, error } = spawnSync('npm', words, {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  });
  if (status !== 0) throw new Error('npm install in bench/peers failed', { cause: error });
}

/** The module of a peer. */
export async function peer<Module>(name: PeerName): Promise<Module> {
  return (await import(pathToFileURL(resolver.resolve(name)).href)) as Module;
}

/** The version that is installed. */
export function versionOf(name: PeerName): string {
  return installed(name) ?? 'not installed';
}

function installed(name: string): string | undefined {
  try {
    return (read(`${folder}/node_modules/${name}/package.json`) as { version: string }).version;
  } catch {
    return undefined;
  }
}

function read(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'));
}
