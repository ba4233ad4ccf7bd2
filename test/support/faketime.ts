// Why this room exists: a process believes in a wrong clock, without touching the clock of the machine: libfaketime shifts
// what it is told of the time of day and leaves the monotonic clock alone, as a wrong clock does.
// Next room: debian.ts, where the library is from; test/drills/skew.ts.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromDebian, versionOf } from './debian.ts';

export interface FakeClock {
  /** Gives a process this clock. */
  env: Record<string, string>;
  version: string;
  /** Moves the clock of the processes that have it, within a second. */
  set(shift_seconds: number): void;
}

/** Throws the reason when the library is not to be had. */
export async function fakeClock(folder: string, shift_seconds: number): Promise<FakeClock> {
  const program = await fromDebian({ name: 'faketime', path: 'usr/bin/faketime', version: '--version' });
  const library = program.libraryPath
    .split(':')
    .map((place) => join(place, 'libfaketime.so.1'))
    .find((path) => existsSync(path));
  if (library === undefined) throw new Error('the package faketime came without libfaketime.so.1');
  const file = join(folder, `clock${shift_seconds}`);
  const set = (shift: number) => writeFileSync(file, `${shift < 0 ? '' : '+'}${shift}s\n`);
  set(shift_seconds);
  return {
    env: {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_CACHE_DURATION: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    },
    version: /\d+\.\d+(\.\d+)?/.exec(await versionOf(program, '--version'))?.[0] ?? 'unknown',
    set,
  };
}
