// Why this room exists: what a proxy does to a header or a stream is only known by asking a real one. It starts nginx,
// HAProxy and Caddy before one service: with the files of examples/proxies, and as they come.
// Invariants: the examples are used as they stand, but for their ports; loopback, free ports and a private folder only;
// nothing outlives `stop`.
// Next room: debian.ts, where the programs are from; proxy-cases.ts, which asks them.
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/embedded/server.ts';
import { exitOf, exitWithin, spawnTied } from './children.ts';
import { environmentOf, fromDebian, type Packaged, type Program, versionOf } from './debian.ts';
import { until } from './until.ts';

/** A way through a proxy: one of ours, or one that shows what happens without a line of ours. */
export type Door =
  | 'nginx as it comes'
  | 'nginx.conf'
  | 'nginx that passes Expect on'
  | 'nginx that ignores X-Accel-Buffering'
  | 'HAProxy as it comes'
  | 'haproxy.cfg'
  | 'Caddyfile';

export interface Proxies {
  /** The port of each door. */
  doors: Record<Door, number>;
  stop(): Promise<void>;
}

export type Programs = Record<'nginx' | 'haproxy' | 'caddy', Program>;

const packages: Record<keyof Programs, Packaged> = {
  nginx: { name: 'nginx', path: 'usr/sbin/nginx', version: '-v' },
  haproxy: { name: 'haproxy', path: 'usr/sbin/haproxy', version: '-v' },
  caddy: { name: 'caddy', path: 'usr/bin/caddy', version: 'version' },
};

/** Brings the three programs; throws the reason when one is not to be had. */
export async function findProxies(): Promise<Programs> {
  const { nginx, haproxy, caddy } = packages;
  return {
    nginx: await fromDebian(nginx),
    haproxy: await fromDebian(haproxy),
    caddy: await fromDebian(caddy),
  };
}

/** The versions they tell, as numbers. */
export async function versionsOf(programs: Programs): Promise<Record<keyof Programs, string>> {
  const told = async (name: keyof Programs) =>
    /\d+\.\d+\.\d+/.exec(await versionOf(programs[name], packages[name].version))?.[0] ?? 'unknown';
  return { nginx: await told('nginx'), haproxy: await told('haproxy'), caddy: await told('caddy') };
}

/** Starts them before a service and waits until every door is open. */
export async function startProxies(programs: Programs, service: number, folder: string): Promise<Proxies> {
  const doors: Record<Door, number> = {
    'nginx as it comes': await freePort(),
    'nginx.conf': await freePort(),
    'nginx that passes Expect on': await freePort(),
    'nginx that ignores X-Accel-Buffering': await freePort(),
    'HAProxy as it comes': await freePort(),
    'haproxy.cfg': await freePort(),
    Caddyfile: await freePort(),
  };
  mkdirSync(folder, { recursive: true });
  const put = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const nginx = put('nginx.conf', nginxText(doors, service, folder));
  const haproxyBare = put('bare.cfg', haproxyBareText(doors['HAProxy as it comes'], service));
  const haproxy = put('haproxy.cfg', example('haproxy.cfg', doors['haproxy.cfg'], service));
  const caddy = put('Caddyfile', example('Caddyfile', doors.Caddyfile, service));
  const running = [
    launch(programs.nginx, ['-e', 'stderr', '-p', folder, '-c', nginx], {}),
    launch(programs.haproxy, ['-db', '-f', haproxyBare, '-f', haproxy], {}),
    launch(programs.caddy, ['run', '--config', caddy, '--adapter', 'caddyfile'], {
      // Or it would keep its state in the home folder and listen on a port of its own for orders.
      HOME: folder,
      XDG_CONFIG_HOME: folder,
      XDG_DATA_HOME: folder,
      CADDY_ADMIN: `unix/${join(folder, 'caddy.sock')}`,
    }),
  ];
  const stop = async () => {
    await Promise.all(running.map(end));
  };
  try {
    await Promise.all(Object.values(doors).map((port) => untilOpen(port, running)));
  } catch (error) {
    await stop();
    throw error;
  }
  return { doors, stop };
}

/** One of examples/proxies with the ports of this run. */
function example(name: string, door: number, service: number): string {
  const file = fileURLToPath(new URL(`../../examples/proxies/${name}`, import.meta.url));
  const address = /127\.0\.0\.1:(8000|8080)\b/g;
  return readFileSync(file, 'utf8').replaceAll(
    address,
    (_, port) => `127.0.0.1:${port === '8000' ? door : service}`,
  );
}

/** What stands in /etc/nginx/nginx.conf otherwise, and around our file what one may write instead of it. */
function nginxText(doors: Record<Door, number>, service: number, folder: string): string {
  const own = join(folder, 'errand.conf');
  writeFileSync(own, example('nginx.conf', doors['nginx.conf'], service));
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${join(folder, kind)};`)
    .join(' ');
  const server = (door: Door, lines: string) =>
    `server { listen 127.0.0.1:${doors[door]}; location / { proxy_pass http://127.0.0.1:${service}; ${lines} } }`;
  const kept = 'proxy_http_version 1.1; proxy_set_header Connection "";';
  const passesExpect = `${kept} proxy_set_header Expect $http_expect;`;
  return `
    daemon off;
    master_process off;
    pid ${join(folder, 'nginx.pid')};
    events {}
    http {
      access_log off;
      ${temporary}
      include ${own};
      ${server('nginx as it comes', '')}
      ${server('nginx that passes Expect on', passesExpect)}
      ${server('nginx that ignores X-Accel-Buffering', 'proxy_ignore_headers X-Accel-Buffering;')}
    }
  `;
}

function haproxyBareText(door: number, service: number): string {
  return `
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen bare
    bind 127.0.0.1:${door}
    server errand1 127.0.0.1:${service}
`;
}

interface Running {
  child: ChildProcess;
  output(): string;
}

function launch(program: Program, words: readonly string[], more: Record<string, string>): Running {
  const child = spawnTied(program.path, words, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...environmentOf(program), ...more },
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      printed += chunk;
    });
  }
  return { child, output: () => printed };
}

async function end({ child }: Running): Promise<void> {
  child.kill('SIGTERM');
  // A proxy that waits for its callers would wait for ever.
  if ((await exitWithin(child, 2_000)).gone) return;
  child.kill('SIGKILL');
  await exitOf(child);
}

async function untilOpen(port: number, running: readonly Running[]): Promise<void> {
  const opened = await until(
    async () => {
      if (running.some(({ child }) => child.exitCode !== null || child.signalCode !== null)) return 'ended';
      const answer = await fetch(`http://127.0.0.1:${port}/health/live`, {
        signal: AbortSignal.timeout(2_000),
      });
      await answer.body?.cancel();
      return answer.status === 200 && 'open';
    },
    { timeoutMs: 15_000, everyMs: 50, what: `a proxy on port ${port} passes a call` },
  );
  if (opened === 'open') return;
  const last = running.map(({ child, output }) => `${child.spawnfile}: ${output().slice(-1_000)}`).join('\n');
  throw new Error(`a proxy ended at its start:\n${last}`);
}
