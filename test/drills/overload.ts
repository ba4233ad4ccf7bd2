// Drill: twice as many submits as the service can take arrive for a minute, whatever becomes of them. Each is answered
// soon, stored or refused with the time to come again; leases are kept meanwhile, memory does not grow, and the full rate
// is back soon after.
// Capacity is what 64 callers get who each ask again when they are answered, on the same machine just before. An answer counts
// from when its request was due, so what waits for a free connection waits in the figures too. Generator, service and
// Postgres share the cores: a request that is refused still has to be sent and read, and what both cost is not there for the
// others. So `accepted_of_capacity` falls short of 1, and stands beside the time the generator took.
// Next room: src/http/admission.ts, which refuses; test/support/flood.ts, the arrivals; frozen.ts, a database that hangs.
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { migrate } from '../../src/store/migrate.ts';
import { type Flood, flood } from '../support/flood.ts';
import { keepLeases } from '../support/held-leases.ts';
import { type Memory, openInside, watchMemory } from '../support/inside.ts';
import { type Service, startService } from '../support/process.ts';
import type { Drill, Figures, Profile, Verdict } from './drill.ts';

const closed_connections = 64;
// As many as proxies keep open. More of them make each request dearer to read and change nothing else: who finds none free
// waits for one, and that counts.
const open_connections = 2_000;
// So large that to take one in costs clearly more than to refuse it. Where it does not, twice the capacity is more than a
// process can even refuse.
const body = JSON.stringify({ type: 'flood', payload: { text: 'x'.repeat(16 * 1024) } });

/** What the long run must keep to, and what the short one must on a machine that others use as well. */
const limits: Record<Profile, Limits> = {
  long: { seconds: 60, p99_ms: 1_000, growth_mib: 64, recovery_seconds: 10, recovered_share: 0.9 },
  short: { seconds: 15, p99_ms: 5_000, growth_mib: 128, recovery_seconds: 10, recovered_share: 0.5 },
};

interface Limits {
  seconds: number;
  p99_ms: number;
  growth_mib: number;
  recovery_seconds: number;
  recovered_share: number;
}

export const drill: Drill = {
  name: 'overload',
  proves: 'twice the load the service can take costs refusals that come at once, and nothing else',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const postgres = await startEmbeddedPostgres({ dataDir: join(folder, 'data') });
    let service: Service | undefined;
    const truth = new pg.Pool({ connectionString: postgres.url, max: 2 });
    try {
      await migrate(postgres.url);
      service = await startService({
        env: {
          ...openInside,
          DATABASE_URL: postgres.url,
          ERRAND_LEASE_SECONDS: '10',
          ERRAND_LOG_LEVEL: 'warn',
        },
      });
      const { port, url } = service;
      const order = { port, body };
      const leases = await keepLeases({ url, count: 5, every_ms: 1_000 });
      // The code is warm before anything is measured, and memory has its usual size.
      const warm = await flood({ ...order, seconds: 4, connections: closed_connections });
      const before = await flood({ ...order, seconds: 6, connections: closed_connections });
      const capacity = rateOf(before);
      say(`capacity: ${Math.round(capacity)} submits a second`);
      const { seconds } = limits[profile];
      // Callers who are connected take memory whether there is much to do or not.
      const connected = Promise.withResolvers<void>();
      const flooding = flood({
        ...order,
        seconds,
        connections: open_connections,
        rate: Math.round(2 * capacity),
        onConnected: connected.resolve,
      });
      await connected.promise;
      const inside = await watchMemory(service);
      for (let looks = 0; looks < 2; looks++) {
        await pause((seconds * 1_000) / 3);
        await inside.look();
      }
      const over = await flooding;
      const memory = inside.stop();
      say(
        `p99 ${Math.round(over.quantile(0.99))} ms; ${over.count('accepted')} accepted, ${over.count('refused')} refused`,
      );
      const after = await flood({
        ...order,
        seconds: limits[profile].recovery_seconds + 1,
        connections: closed_connections,
      });
      const held = await leases.end();
      const accepted = [warm, before, over, after].reduce((sum, run) => sum + run.count('accepted'), 0);
      const { rows } = await truth.query<{ stored: number }>(
        `select count(*)::int stored from errand.job where payload like '{"text":"xxx%'`,
      );
      return judge({
        profile,
        capacity,
        before,
        over,
        after,
        memory,
        held,
        accepted,
        stored: rows[0]?.stored ?? 0,
      });
    } finally {
      await truth.end();
      await service?.kill9();
      await postgres.stop();
    }
  },
};

interface Seen {
  profile: Profile;
  capacity: number;
  before: Flood;
  over: Flood;
  after: Flood;
  memory: Memory;
  held: Awaited<ReturnType<Awaited<ReturnType<typeof keepLeases>>['end']>>;
  accepted: number;
  stored: number;
}

function judge({ profile, capacity, before, over, after, memory, held, accepted, stored }: Seen): Verdict {
  const most = limits[profile];
  const ms = (share: number, outcome?: 'accepted' | 'refused') =>
    Math.round(over.quantile(share, 0, Number.POSITIVE_INFINITY, outcome));
  const recovered = after.perSecond('accepted').findIndex((rate) => rate >= most.recovered_share * capacity);
  const unanswered = over.count('other') + before.count('other') + after.count('other');
  const unknown = over.count('unknown') + before.count('unknown') + after.count('unknown');
  const figures: Figures = {
    capacity_per_second: Math.round(capacity),
    offered_per_second: Math.round(over.at.length / most.seconds),
    seconds: most.seconds,
    connections: open_connections,
    generator_kept_up: over.kept_up,
    answers: over.at.length,
    accepted: over.count('accepted'),
    refused: over.count('refused'),
    unknown,
    other: unanswered === 0 ? 0 : JSON.stringify([before.others, over.others, after.others]),
    accepted_per_second: Math.round(over.count('accepted') / most.seconds),
    accepted_of_capacity: Math.round((100 * over.count('accepted')) / most.seconds / capacity) / 100,
    generator_cores: Math.round(over.cpu_ms / most.seconds / 10) / 100,
    p50_ms: ms(0.5),
    p99_ms: ms(0.99),
    slowest_ms: ms(1),
    accepted_p50_ms: ms(0.5, 'accepted'),
    accepted_p99_ms: ms(0.99, 'accepted'),
    refused_p50_ms: ms(0.5, 'refused'),
    refused_p99_ms: ms(0.99, 'refused'),
    p99_ms_by_second: Array.from({ length: most.seconds }, (_, second) =>
      Math.round(over.quantile(0.99, second * 1_000, (second + 1) * 1_000)),
    ).join(' '),
    memory: { ...memory },
    leases: { ...held },
    full_rate_after_seconds: recovered,
    stored,
    acknowledged: accepted,
  };
  // A machine that has no time for the generator has offered more than twice what the service could take on it.
  const isCalm = over.kept_up;
  if (profile === 'long' && !isCalm) {
    return {
      result: 'NOT RUN',
      reason: 'the generator was late: this machine has too much else to do',
      figures,
    };
  }
  const ok: Record<string, boolean> = {
    [`the p99 of all answers is at most ${most.p99_ms} ms`]: !isCalm || ms(0.99) <= most.p99_ms,
    'every request was answered with 202 or 503': unanswered === 0,
    'every 503 said when to come again': over.rude + before.rude + after.rude === 0,
    'what was acknowledged is what is stored': stored >= accepted && stored <= accepted + unknown,
    'no lease was lost': held.lost === 0,
    [`memory grew by at most ${most.growth_mib} MiB`]: memory.growth_mib <= most.growth_mib,
    [`the full rate was back within ${most.recovery_seconds} s`]:
      recovered >= 0 && recovered <= most.recovery_seconds,
  };
  const broken = Object.entries(ok).find(([, holds]) => !holds)?.[0];
  if (broken !== undefined) return { result: 'FAIL', reason: `it is not so that ${broken}`, figures };
  const happened = {
    'more came than could be taken': over.count('refused') > 0,
    'jobs were taken all the same': over.count('accepted') > (capacity * most.seconds) / 10,
    'leases were renewed meanwhile': held.renewals > held.leases * (most.seconds / 4),
  };
  const missing = Object.entries(happened).find(([, did]) => !did);
  if (missing !== undefined) return { result: 'VACUOUS', reason: `it is not so that ${missing[0]}`, figures };
  return { result: 'PASS', figures };
}

/** Submits that were taken in a second, in the middle of the run. */
function rateOf(run: Flood): number {
  const rates = run.perSecond('accepted').slice(1, -1);
  return rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
}
