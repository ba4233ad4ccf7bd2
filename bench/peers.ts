// Installs what Errand is compared with. It has a lockfile of its own, so nobody who builds Errand pays for it.
// Next room: contestants/graphile.ts.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('./peers', import.meta.url));

/** Runs `npm ci` in bench/peers on first use; throws when it fails. */
export async function installPeers(say: (line: string) => void): Promise<void> {
  if (existsSync(`${folder}/node_modules/graphile-worker/package.json`)) return;
  say('installing the peers in bench/peers');
  const { status, error } = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  });
  if (status !== 0) throw new Error('npm ci in bench/peers failed', { cause: error });
}
