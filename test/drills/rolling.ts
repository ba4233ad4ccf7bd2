// Drill: a rollout. Three replicas under a hundred calls a second are replaced one after another, behind a balancer that
// goes on sending new connections to a replica for five seconds after its SIGTERM, while silent sockets stay open.
// Next room: test/support/balancer.ts, the race; test/support/mixed-load.ts, the callers; docs/guides/operations.md.
import { once } from 'node:events';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { balancer } from '../support/balancer.ts';
import { exitWithin } from '../support/children.ts';
import { loadBooks } from '../support/load-books.ts';
import { type Call, kinds, mixedLoad } from '../support/mixed-load.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import type { Drill, Verdict } from './drill.ts';

const rate = 100;
const workers = 4;
const silent_sockets = 20;
/** What the balancer takes to notice, and what the chart gives it by default. */
const notice_seconds = 5;
const drain_delay_seconds = 5;
const most_exit_seconds = 25;
const handlers = fileURLToPath(new URL('../support/handlers', import.meta.url));

interface Replacement {
  exit_code: number | null;
  seconds: number;
  /** Connections that came after SIGTERM. */
  late_connections: number;
}

export const drill: Drill = {
  name: 'rolling',
  proves: 'a rolling restart fails no request, loses no job and burns no attempt',
  profiles: ['short', 'long'],
  async run({ profile, say }): Promise<Verdict> {
    const rounds = profile === 'long' ? 5 : 1;
    const database = await cloneDatabase();
    const truth = new pg.Pool({ connectionString: database.url, max: 2 });
    truth.on('error', () => {});
    const door = await balancer();
    const env = {
      DATABASE_URL: database.url,
      ERRAND_HANDLERS_DIR: handlers,
      ERRAND_DRAIN_DELAY_SECONDS: String(drain_delay_seconds),
      ERRAND_LOG_LEVEL: 'warn',
    };
    const replicas: Service[] = [];
    const start = async () => {
      const replica = await startService({ env });
      door.add(replica.port);
      return replica;
    };
    try {
      for (let n = 0; n < 3; n++) replicas.push(await start());
      const load = await mixedLoad({ url: door.url, rate, workers });
      const began = performance.now();
      const replaced: Replacement[] = [];
      try {
        for (let n = 0; n < rounds * 3; n++) {
          await new Promise((resolve) => setTimeout(resolve, 2_000));
          const leaving = replicas[n % 3] as Service;
          replaced.push(await replace(leaving));
          say(`${JSON.stringify(replaced.at(-1))}, ${load.calls.length} calls so far`);
          replicas[n % 3] = await start();
        }
      } finally {
        await load.stop();
      }
      const seconds = (performance.now() - began) / 1_000;
      const books = await loadBooks(truth, load.acked, 60_000);
      const failed = load.calls.filter(({ status }) => status === 0 || status >= 400);
      const figures = {
        replaced: replaced.length,
        calls: load.calls.length,
        calls_a_second: Math.round(load.calls.length / seconds),
        ...Object.fromEntries(
          kinds.map((kind) => [kind, load.calls.filter((call) => call.kind === kind).length]),
        ),
        failed: failed.length,
        acked: load.acked.size,
        stored: books.stored,
        starts_given_back: books.given_back,
        connections_after_sigterm: replaced.reduce((sum, one) => sum + one.late_connections, 0),
        kept_connections_closed_by_an_answer: load.calls.filter(({ closed }) => closed).length,
        slowest_exit_seconds: Math.max(...replaced.map(({ seconds }) => seconds)),
        slowest_call_ms: Math.round(Math.max(...load.calls.filter(isShort).map(({ ms }) => ms))),
      };
      await load.close();
      if (failed.length > 0) return { result: 'FAIL', reason: faultsOf(failed), figures };
      const broken = {
        'exits that were not 0': replaced
          .filter(({ exit_code }) => exit_code !== 0)
          .map(({ exit_code }) => String(exit_code)),
        'jobs that are lost': books.lost,
        'jobs that did not succeed': books.not_succeeded,
        'jobs whose attempt was burnt': books.burnt,
        'starts that were lost': books.lost_starts > 0 ? [String(books.lost_starts)] : [],
        [`exits after more than ${most_exit_seconds} s`]: replaced
          .filter(({ seconds }) => seconds > most_exit_seconds)
          .map(({ seconds }) => String(seconds)),
      };
      for (const [what, which] of Object.entries(broken)) {
        if (which.length > 0)
          return { result: 'FAIL', reason: `${what}: ${which.slice(0, 5).join(', ')}`, figures };
      }
      const happened = {
        'new connections came to each replica after SIGTERM': replaced.every(
          (one) => one.late_connections >= 20,
        ),
        'answers closed kept connections': figures.kept_connections_closed_by_an_answer > 0,
        'calls of every kind came': kinds.every((kind) => load.calls.some((call) => call.kind === kind)),
        'connections were kept': load.calls.some(({ reused }) => reused),
        'a hundred calls a second came': figures.calls_a_second >= rate * 0.95,
      };
      const missing = Object.entries(happened).find(([, did]) => !did);
      if (missing !== undefined)
        return { result: 'VACUOUS', reason: `it is not so that ${missing[0]}`, figures };
      return { result: 'PASS', figures };
    } finally {
      await Promise.all(replicas.map((replica) => replica.kill9()));
      door.stop();
      await truth.end();
      await database.drop();
    }

    /** SIGTERM, the time in which the balancer does not know yet, and the exit. */
    async function replace(leaving: Service): Promise<Replacement> {
      const silent = await silence(leaving.port);
      const before = door.sent(leaving.port);
      const began = performance.now();
      leaving.child.kill('SIGTERM');
      const noticed = new Promise<number>((resolve) => {
        setTimeout(() => {
          door.remove(leaving.port);
          resolve(door.sent(leaving.port) - before);
        }, notice_seconds * 1_000);
      });
      const { gone, code } = await exitWithin(leaving.child, 60_000);
      const seconds = Math.round((performance.now() - began) / 100) / 10;
      for (const socket of silent) socket.destroy();
      return { exit_code: gone ? code : null, seconds, late_connections: await noticed };
    }
  },
};

/** Calls that do not wait by their own wish. */
const isShort = ({ kind }: Call) => kind !== 'lease' && kind !== 'wait';

async function silence(port: number): Promise<net.Socket[]> {
  const sockets = Array.from({ length: silent_sockets }, (_, n) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.once('connect', () => n % 2 === 0 && socket.write('POST /v1/jobs HTTP/1.1\r\nhost: x\r\n'));
    return socket;
  });
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  return sockets;
}

function faultsOf(failed: readonly Call[]): string {
  const [first] = failed;
  const told = failed.slice(0, 5).map(({ kind, status, fault, ms, reused }) => {
    return `${kind} ${status} after ${Math.round(ms)} ms${reused ? ' on a kept connection' : ''}: ${fault}`;
  });
  return first === undefined ? '' : `${failed.length} calls failed: ${told.join('; ')}`;
}
