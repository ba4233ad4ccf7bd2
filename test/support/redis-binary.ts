// Why this room exists: the tests need a real Redis server, and "npm test" must find or bring one.
// Invariant: never a silent skip, always a binary or an error that names the remedies.
// Next room: debian.ts, which brings it; redis.ts, which starts servers from it.
import { findProgram } from './children.ts';
import { fromDebian, type Program } from './debian.ts';

export const REDIS_VARIABLE = 'ERRAND_TEST_REDIS_SERVER';

let found: Promise<Program> | undefined;

/** Finds a server on PATH, or takes it out of the Debian packages. */
export function findRedis(): Promise<Program> {
  found ??= locate();
  return found;
}

async function locate(): Promise<Program> {
  const told = process.env[REDIS_VARIABLE];
  if (told) return JSON.parse(told) as Program;
  const installed = findProgram('redis-server', 'valkey-server');
  if (installed) return { path: installed, libraryPath: '' };
  try {
    return await fromDebian({ name: 'redis-server', path: 'usr/bin/redis-server', version: '--version' });
  } catch (error) {
    throw new Error(
      `no redis-server or valkey-server on PATH, and ${(error as Error).message}; ` +
        'install one (sudo apt-get install redis-server, or brew install valkey) and run the tests again',
    );
  }
}
