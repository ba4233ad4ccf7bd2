// Drill: the whole Postgres is stopped in its tracks under a load of submits, polls, waits, pull workers and handlers. No
// connection breaks and nothing answers: what is under way takes its time, whoever comes later is refused at once. Nothing
// acknowledged is lost, and a repeat under its key makes no second job.
// Next room: src/store/line.ts, which notices; overload.ts, the same promise for too much load; database-outage.ts.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { migrate } from '../../src/store/migrate.ts';
import { type Flood, flood } from '../support/flood.ts';
import { type Held, keepLeases } from '../support/held-leases.ts';
import { type Memory, openInside, watchMemory } from '../support/inside.ts';
import { type LoadBooks, loadBooks } from '../support/load-books.ts';
import { type Call, type MixedLoad, mixedLoad } from '../support/mixed-load.ts';
import { type Service, startService } from '../support/process.ts';
import type { Drill, Figures, Profile, Verdict } from './drill.ts';

const lead_seconds = 6;
const healing_seconds = 10;
const mixed_rate = 40;
const body = JSON.stringify({ type: 'flood', payload: { text: 'x'.repeat(180) } });
const handlers = fileURLToPath(new URL('../support/handlers', import.meta.url));

/** What the long run must keep to, and what the short one must on a machine that others use as well. */
const limits: Record<Profile, Limits> = {
  long: { frozen_seconds: 30, rate: 2_000, p99_ms: 1_000, notice_ms: 1_500, growth_mib: 64, full_share: 0.9 },
  short: { frozen_seconds: 10, rate: 300, p99_ms: 2_500, notice_ms: 3_000, growth_mib: 64, full_share: 0.7 },
};

interface Limits {
  frozen_seconds: number;
  /** Submits a second, besides the mixed load. */
  rate: number;
  /** For what comes when the process must have noticed. */
  p99_ms: number;
  notice_ms: number;
  growth_mib: number;
  /** Of the submits of a second, what must be taken again. */
  full_share: number;
}

export const drill: Drill = {
  name: 'frozen',
  proves:
    'a Postgres that hangs without a word costs refusals that come at once, and nothing that was acknowledged',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    if (process.platform !== 'linux') {
      return {
        result: 'NOT RUN',
        reason: 'the processes of Postgres are found in /proc, which only Linux has',
      };
    }
    const { frozen_seconds, rate } = limits[profile];
    const postgres = await startEmbeddedPostgres({ dataDir: join(folder, 'data') });
    const truth = new pg.Pool({ connectionString: postgres.url, max: 2 });
    let service: Service | undefined;
    let load: MixedLoad | undefined;
    let frozen: number[] = [];
    try {
      await migrate(postgres.url);
      service = await startService({
        env: {
          ...openInside,
          DATABASE_URL: postgres.url,
          ERRAND_HANDLERS_DIR: handlers,
          // Longer than the freeze, which nobody can renew through.
          ERRAND_LEASE_SECONDS: String(frozen_seconds + 60),
          ERRAND_LOG_LEVEL: 'error',
        },
      });
      const { port, url } = service;
      const live = watchLiveness(url);
      const leases = await keepLeases({ url, count: 3, every_ms: 1_000 });
      load = await mixedLoad({ url, rate: mixed_rate, workers: 2 });
      const seconds = lead_seconds + frozen_seconds + healing_seconds + 3;
      const started = Promise.withResolvers<number>();
      const flooding = flood({
        port,
        body,
        seconds,
        rate,
        connections: 1_000,
        keys: 'frozen-',
        onConnected: () => started.resolve(performance.now()),
      });
      const began = await started.promise;
      const inside = await watchMemory(service);
      await pause(began + lead_seconds * 1_000 - performance.now());
      frozen = processesOf(postgres);
      for (const pid of frozen) process.kill(pid, 'SIGSTOP');
      const stopped = performance.now();
      say(`${frozen.length} processes of Postgres are stopped`);
      await pause(frozen_seconds * 500);
      await inside.look();
      await pause(stopped + frozen_seconds * 1_000 - performance.now());
      await inside.look();
      thaw(frozen.splice(0));
      const back = performance.now();
      const over = await flooding;
      const memory = inside.stop();
      await load.stop();
      const held = await leases.end();
      const unknown = over.numbersOf('unknown').concat(over.numbersOf('other'));
      // Whoever does not know repeats under the same key.
      const again = await flood({
        port,
        body,
        seconds: 5,
        connections: 50,
        keys: 'frozen-',
        numbers: unknown,
      });
      const books = await loadBooks(truth, load.acked, 0);
      const keyed = await keysOf(truth, over);
      const times = { stopped: stopped - began, back: back - began };
      return judge({
        profile,
        over,
        again,
        calls: load.calls.map((call) => ({ ...call, at: call.at - began })),
        live: live.stop(),
        held,
        memory,
        books,
        acked: load.acked.size,
        keyed,
        times,
      });
    } finally {
      thaw(frozen);
      await load?.close();
      await truth.end();
      await service?.kill9();
      await postgres.stop();
    }
  },
};

/** The postmaster and all its children, the postmaster first: what is stopped can start no others. */
function processesOf({ dataDir }: EmbeddedPostgres): number[] {
  const postmaster = Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n', 1)[0]);
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => parentOf(pid) === postmaster);
  return [postmaster, ...children];
}

function parentOf(pid: number): number | null {
  try {
    // The name, in brackets, may hold anything: see proc(5).
    return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop()?.split(' ')[1]);
  } catch {
    return null;
  }
}

function thaw(pids: readonly number[]): void {
  for (const pid of pids.toReversed()) {
    try {
      process.kill(pid, 'SIGCONT');
    } catch {
      // A backend may have ended between the two signals.
    }
  }
}

/** Asks the liveness probe four times a second. */
function watchLiveness(url: string): { stop(): { asked: number; not_200: number; slowest_ms: number } } {
  const seen = { asked: 0, not_200: 0, slowest_ms: 0 };
  const timer = setInterval(async () => {
    const began = performance.now();
    const status = await fetch(`${url}/health/live`, { signal: AbortSignal.timeout(5_000) }).then(
      async (answer) => {
        await answer.arrayBuffer();
        return answer.status;
      },
      () => 0,
    );
    seen.asked++;
    if (status !== 200) seen.not_200++;
    seen.slowest_ms = Math.max(seen.slowest_ms, Math.round(performance.now() - began));
  }, 250);
  return {
    stop() {
      clearInterval(timer);
      return seen;
    },
  };
}

interface Keyed {
  /** Keys that stand for a job, and jobs that were made. */
  keys: number;
  jobs: number;
  /** Acknowledged keys that stand for none. */
  lost: number;
}

async function keysOf(truth: pg.Pool, over: Flood): Promise<Keyed> {
  const { rows: keys } = await truth.query<{ key: string }>(
    `select key from errand.idem where key like 'frozen-%'`,
  );
  const { rows: jobs } = await truth.query<{ n: number }>(
    `select count(*)::int n from errand.job where payload like '{"text":"xxx%'`,
  );
  const stored = new Set(keys.map(({ key }) => key));
  const lost = over.numbersOf('accepted').filter((n) => !stored.has(`frozen-${n}`));
  return { keys: stored.size, jobs: jobs[0]?.n ?? 0, lost: lost.length };
}

interface Seen {
  profile: Profile;
  over: Flood;
  again: Flood;
  calls: readonly Call[];
  live: { asked: number; not_200: number; slowest_ms: number };
  held: Held;
  memory: Memory;
  books: LoadBooks;
  acked: number;
  keyed: Keyed;
  times: { stopped: number; back: number };
}

function judge(seen: Seen): Verdict {
  const { profile, over, again, calls, live, held, memory, books, acked, keyed, times } = seen;
  const most = limits[profile];
  const { stopped, back } = times;
  const noticed = stopped + most.notice_ms;
  const ms = (share: number, from: number, to: number) => Math.round(over.quantile(share, from, to));
  const mixed = calls.filter(({ at, kind }) => at >= noticed && at < back && kind !== 'lease');
  const mixedTimes = Float64Array.from(mixed, (call) => call.ms).sort();
  const taken = over.perSecond('accepted');
  const firstBack = Math.ceil(back / 1_000);
  const full = taken.slice(firstBack).findIndex((count) => count >= most.full_share * most.rate);
  const recovered = full < 0 ? -1 : firstBack + full + 1 - back / 1_000;
  const figures: Figures = {
    frozen_seconds: Math.round(back - stopped) / 1_000,
    submits_per_second: most.rate,
    generator_kept_up: over.kept_up,
    answers: over.at.length,
    accepted: over.count('accepted'),
    refused: over.count('refused'),
    unknown: over.count('unknown'),
    other: JSON.stringify(over.others),
    p99_ms_before: ms(0.99, 0, stopped),
    p50_ms_once_noticed: ms(0.5, noticed, back),
    p99_ms_once_noticed: ms(0.99, noticed, back),
    slowest_ms_once_noticed: ms(1, noticed, back),
    p99_ms_by_second: Array.from({ length: Math.round((back - stopped) / 1_000) }, (_, n) =>
      ms(0.99, stopped + n * 1_000, stopped + (n + 1) * 1_000),
    ).join(' '),
    slowest_ms: ms(1, 0, Number.POSITIVE_INFINITY),
    mixed_calls_once_noticed: mixed.length,
    mixed_p99_ms_once_noticed: Math.round(mixedTimes[Math.ceil(0.99 * mixedTimes.length) - 1] ?? 0),
    full_rate_after_seconds: Math.round(recovered * 10) / 10,
    memory: { ...memory },
    liveness: { ...live },
    leases: { ...held },
    acknowledged: over.count('accepted') + acked,
    repeated: again.at.length,
    repeated_accepted: again.count('accepted'),
    keys: keyed.keys,
    jobs: keyed.jobs,
  };
  const ok: Record<string, boolean> = {
    [`the p99 of what came once it was noticed is at most ${most.p99_ms} ms`]:
      ms(0.99, noticed, back) <= most.p99_ms,
    'every submit was answered with 202 or 503': over.count('other') === 0,
    'every 503 said when to come again': over.rude === 0,
    'no acknowledged job is lost': keyed.lost === 0 && books.lost.length === 0,
    'every repeat under its key was taken': again.count('accepted') === again.at.length,
    'every key stands for one job': keyed.jobs === keyed.keys,
    'no lease was lost': held.lost === 0,
    'liveness was 200 throughout': live.not_200 === 0,
    [`memory grew by at most ${most.growth_mib} MiB`]: memory.growth_mib <= most.growth_mib,
    [`the full rate was back within ${healing_seconds} s`]: recovered >= 0 && recovered <= healing_seconds,
  };
  const broken = Object.entries(ok).find(([, holds]) => !holds)?.[0];
  if (broken !== undefined) return { result: 'FAIL', reason: `it is not so that ${broken}`, figures };
  const happened = {
    'submits were refused while it was frozen': over.count('refused') > most.rate * most.frozen_seconds * 0.5,
    'jobs were acknowledged before and after': over.count('accepted') > most.rate * lead_seconds,
    'the outcome of some submits was unknown': over.count('unknown') > 0,
  };
  const missing = Object.entries(happened).find(([, did]) => !did);
  if (missing !== undefined) return { result: 'VACUOUS', reason: `it is not so that ${missing[0]}`, figures };
  return { result: 'PASS', figures };
}
