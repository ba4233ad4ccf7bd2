// Drill: Postgres is stopped for a minute under three replicas that are called all the time. They live on, say that they are
// not ready, refuse at once and say when to come back, ask for a connection about once a second, and heal by themselves.
// Next room: src/store/breaker.ts, which asks; test/support/mixed-load.ts, the callers; outage.ts, the same for schedules.
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { migrate } from '../../src/store/migrate.ts';
import { balancer } from '../support/balancer.ts';
import { loadBooks } from '../support/load-books.ts';
import { type Call, type MixedLoad, mixedLoad } from '../support/mixed-load.ts';
import { type Service, startService } from '../support/process.ts';
import { type FaultProxy, faultProxy } from '../support/proxy.ts';
import type { Drill, Verdict } from './drill.ts';

const rate = 60;
const replicas = 3;
/** What the pools and the listener of a process may open together. */
const pool_connections = 3 + 5 + 4 + 2 + 1;
const most_attempts_a_second = 3;
const healing_seconds = 15;
const refusal_ms = 2_000;
/** Readiness waits so long before it believes in an outage; then come a look and a poll of ours. */
const patience_seconds = { least: 8, most: 15 };
const handlers = fileURLToPath(new URL('../support/handlers', import.meta.url));

export const drill: Drill = {
  name: 'database-outage',
  proves: 'a Postgres that is stopped costs refusals, no restart, no storm of connections, and no job',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const outage_seconds = profile === 'long' ? 60 : 25;
    const launch = () =>
      startEmbeddedPostgres({
        dataDir: join(folder, 'data'),
        settings: { fsync: 'off', max_connections: '100' },
      });
    let postgres = await launch();
    await migrate(postgres.url);
    const front = await balancer();
    const subjects: Subject[] = [];
    let load: MixedLoad | undefined;
    try {
      for (let n = 0; n < replicas; n++) {
        subjects.push(await subject(postgres.url, postgres.port));
        front.add(subjects[n]?.service.port ?? 0);
      }
      load = await mixedLoad({ url: front.url, rate, workers: 3 });
      await pause(6_000);
      const stopped = performance.now();
      for (const one of subjects) one.mark();
      await postgres.stop();
      await pause(outage_seconds * 1_000);
      const attempts = subjects.map((one) => one.mark());
      postgres = await launch();
      const back = performance.now();
      for (const { door } of subjects) door.aim(postgres.port);
      const away = (back - stopped) / 1_000;
      say(`Postgres was away for ${away.toFixed(1)} s; ${attempts.join(', ')} connections were tried`);
      await pause(healing_seconds * 1_000);
      const after = subjects.map((one) => one.mark());
      await load.stop();
      const truth = new pg.Pool({ connectionString: postgres.url, max: 2 });
      const books = await loadBooks(truth, load.acked, 90_000);
      await truth.end();
      const times = { stopped, back, away };
      return judge({ subjects, attempts, after, books, calls: load.calls, acked: load.acked.size, times });
    } finally {
      await load?.close();
      for (const one of subjects) await one.close();
      front.stop();
      await postgres.stop();
    }
  },
};

/** What one probe answered, and when. */
interface Look {
  at: number;
  ms: number;
  live: number;
  ready: number;
}

interface Subject {
  service: Service;
  door: FaultProxy;
  looks: readonly Look[];
  /** Connections that were tried since the last mark. */
  mark(): number;
  close(): Promise<void>;
}

/** A replica with a way to the database of its own, probed four times a second. */
async function subject(url: string, port: number): Promise<Subject> {
  const door = await faultProxy(port);
  const through = new URL(url);
  through.port = String(door.port);
  const service = await startService({
    env: {
      DATABASE_URL: through.href,
      ERRAND_HANDLERS_DIR: handlers,
      ERRAND_LEASE_SECONDS: '5',
      ERRAND_LOG_LEVEL: 'warn',
    },
  });
  const looks: Look[] = [];
  let watching = true;
  const status = async (which: string) => {
    const answer = await fetch(`${service.url}/health/${which}`, { signal: AbortSignal.timeout(5_000) });
    await answer.arrayBuffer();
    return answer.status;
  };
  const watch = (async () => {
    while (watching) {
      const at = performance.now();
      const [live, ready] = await Promise.all(
        [status('live'), status('ready')].map((one) => one.catch(() => 0)),
      );
      looks.push({ at, ms: performance.now() - at, live: live ?? 0, ready: ready ?? 0 });
      await pause(250);
    }
  })();
  let marked = door.came;
  return {
    service,
    door,
    looks,
    mark() {
      const since = door.came - marked;
      marked = door.came;
      return since;
    },
    async close() {
      watching = false;
      await watch;
      await service.kill9();
      await door.stop();
    },
  };
}

interface Seen {
  subjects: readonly Subject[];
  attempts: readonly number[];
  after: readonly number[];
  books: Awaited<ReturnType<typeof loadBooks>>;
  calls: readonly Call[];
  acked: number;
  times: { stopped: number; back: number; away: number };
}

function judge({ subjects, attempts, after, books, calls, acked, times }: Seen): Verdict {
  const { stopped, back, away } = times;
  const seconds = (ms: number) => Math.round(ms / 100) / 10;
  const turned = subjects.map(({ looks }) => {
    const off = looks.find(({ at, ready }) => at > stopped && ready === 503)?.at ?? Number.NaN;
    const on = looks.find(({ at, ready }) => at > back && ready === 200)?.at ?? Number.NaN;
    return { off: seconds(off - stopped), on: seconds(on - back) };
  });
  const during = calls.filter(({ at }) => at > stopped + 500 && at < back);
  const refused = during.filter(({ status }) => status === 503);
  const failed = calls.filter(({ status }) => status >= 400 || status === 0);
  const rude = failed.filter(({ status, retry_after }) => status !== 503 || !((retry_after ?? 0) >= 1));
  const healed = Math.max(...failed.map(({ at }) => at)) - back;
  const looks = subjects.flatMap((one) => one.looks);
  const figures = {
    replicas,
    away_seconds: seconds(away * 1_000),
    calls: calls.length,
    refused_while_away: refused.length,
    slowest_refusal_ms: Math.round(Math.max(...refused.map(({ ms }) => ms))),
    last_refusal_after_return_seconds: seconds(healed),
    probes: looks.length,
    slowest_probe_ms: Math.round(Math.max(...looks.map(({ ms }) => ms))),
    readiness_off_after_seconds: turned.map(({ off }) => off).join(', '),
    readiness_on_after_seconds: turned.map(({ on }) => on).join(', '),
    connections_tried_by_each_while_away: attempts.join(', '),
    connections_tried_by_each_after: after.join(', '),
    acked,
    stored: books.stored,
    starts_lost: books.lost_starts,
  };
  const most_attempts = pool_connections + most_attempts_a_second * away;
  const ok: Record<string, boolean> = {
    'liveness was 200 throughout': looks.every(({ live }) => live === 200),
    'readiness followed, and not too soon': turned.every(
      ({ off }) => off >= patience_seconds.least && off <= patience_seconds.most,
    ),
    [`readiness was back within ${healing_seconds} s`]: turned.every(({ on }) => on <= healing_seconds),
    [`calls were served again within ${healing_seconds} s`]: healed < (healing_seconds - 1) * 1_000,
    'who was refused was told so, and when to come back': rude.length === 0,
    'refusals were prompt': figures.slowest_refusal_ms <= refusal_ms,
    'no process was restarted': subjects.every(({ service }) => service.child.exitCode === null),
    [`at most ${most_attempts_a_second} connections a second were tried by each`]: attempts.every(
      (count) => count <= most_attempts,
    ),
    'no storm came after': after.every((count) => count <= 2 * pool_connections),
    'no acknowledged job is lost': books.lost.length === 0,
    'every acknowledged job succeeded': books.acked_not_succeeded.length === 0,
  };
  const broken = Object.entries(ok).find(([, holds]) => !holds)?.[0];
  if (broken !== undefined) {
    const told = [
      ...books.acked_not_succeeded,
      ...rude.map(({ kind, status, fault }) => `${kind} ${status} ${fault}`),
    ];
    return { result: 'FAIL', reason: `it is not so that ${broken}: ${told.slice(0, 3).join('; ')}`, figures };
  }
  const happened = {
    'calls came while it was away': refused.length > rate * away * 0.5,
    'each replica tried to come back': attempts.every((count) => count > away / 5),
    'jobs were acknowledged before and after': acked > 100,
  };
  const missing = Object.entries(happened).find(([, did]) => !did);
  if (missing !== undefined) return { result: 'VACUOUS', reason: `it is not so that ${missing[0]}`, figures };
  return { result: 'PASS', figures };
}
