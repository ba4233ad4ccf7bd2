// Why this room exists: buildah runs a container without a PID namespace and with a writable root, and Kubernetes does
// neither. This runs a command in an image's tree as the chart has it: first process of its own, root read-only, uid 1000,
// no capability, nothing writable but /tmp.
// Invariant: the mounts belong to the process and go with it; needs root.
// Next room: test/drills/image.ts.
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { findProgram, spawnTied } from './children.ts';

export interface Jail {
  /** The tree of the image. */
  root: string;
  /** A folder that is seen as /mnt. */
  mounted: string;
}

const script = `
set -e
root=$1; mounted=$2; shift 2
mount --bind "$root" "$root"
mount --bind "$mounted" "$root/mnt"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777,size=16m tmpfs "$root/tmp"
mount -o remount,ro,bind "$root"
if touch "$root/written" 2>/dev/null; then echo "the root is writable" >&2; exit 99; fi
exec chroot "$root" /bin/sh -c 'cd /app && exec setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs \\
  --inh-caps=-all --bounding-set=-all -- "$@"' sh "$@"
`;

/** Whether this machine can; else why not. */
export function jailable(): string | null {
  if (process.getuid?.() !== 0) return 'a read-only root needs root here';
  return findProgram('unshare') === null ? 'unshare is not installed' : null;
}

/** Starts a command inside. */
export function jailed(
  { root, mounted }: Jail,
  env: Record<string, string>,
  words: readonly string[],
): ChildProcess {
  const own = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child=SIGKILL'];
  return spawnTied('unshare', [...own, '--', 'sh', '-c', script, 'sh', root, mounted, ...words], {
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** The number a process has in its own namespace, and the capabilities it may ever have. */
export function standingOf(pid: number): { pid: number; uid: number; capabilities: string } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
  return {
    pid: Number(field('NSpid').split(/\s+/).at(-1)),
    uid: Number(field('Uid').split(/\s+/)[0]),
    capabilities: field('CapBnd'),
  };
}
