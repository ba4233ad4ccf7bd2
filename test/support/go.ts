// Why this room exists: what is written in Go is compiled and run as a reader would, without Go being installed.
// Invariant: nothing is fetched but the compiler, and everything it writes lies in the folder it is given.
// Next room: debian.ts, where the compiler comes from; test/drills/languages.ts.
import { execFile } from 'node:child_process';
import { realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { fromDebian } from './debian.ts';

export interface Go {
  version: string;
  /** Refuses a file that is not formatted or that `go vet` complains of, and makes a program of it. */
  build(file: string, program: string): Promise<void>;
}

const limit_ms = 180_000;
const run = promisify(execFile);

/** Takes Go out of its Debian packages; throws why not. `libraries` is a GOPATH to find packages in. */
export async function findGo(folder: string, libraries?: string): Promise<Go> {
  const { path } = await fromDebian({ name: 'golang-go', path: 'usr/bin/go', version: 'version' });
  const root = dirname(dirname(await realpath(path)));
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    GOROOT: root,
    GOCACHE: join(folder, 'cache'),
    ...(libraries === undefined
      ? { GOPATH: join(folder, 'path'), GOFLAGS: '-mod=mod' }
      : { GOPATH: libraries, GO111MODULE: 'off' }),
    GOPROXY: 'off',
    // No C compiler has to be there.
    CGO_ENABLED: '0',
  };
  const go = (tool: string, ...words: string[]) =>
    run(join(root, 'bin', tool), words, { env, timeout: limit_ms, killSignal: 'SIGKILL' });
  return {
    version: (await go('go', 'env', 'GOVERSION')).stdout.trim(),
    async build(file, program) {
      const { stdout } = await go('gofmt', '-d', file);
      if (stdout !== '') throw new Error(`${file} is not formatted:\n${stdout}`);
      await go('go', 'vet', file);
      await go('go', 'build', '-o', program, file);
    },
  };
}
