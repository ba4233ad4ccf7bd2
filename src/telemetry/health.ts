// Whether this process is well, as probes and people ask it.
// Invariants: liveness never depends on Postgres or Redis; readiness follows the database with hysteresis; a thousand
// probes a second cost under two queries a second.
// Next room: http/health.ts.

export interface HealthOptions {
  release: string;
  /** Which process this is, as leaders are named too. */
  holder: string;
  /** Answers who leads; throws when the database does not answer or takes no writes. */
  pingDatabase: () => Promise<Leader>;
  /** Answers the round trip in ms; null = Redis is not configured. */
  pingRedis: (() => Promise<number>) | null;
  loops: () => Record<string, number>;
  draining: () => boolean;
  started: () => boolean;
}

/** Who leads the dispatchers, for how long already, and what is left of the term; all null when nobody ever did. */
interface Leader {
  term: string | null;
  holder: string | null;
  age_ms: number | null;
  left_ms: number | null;
}

export interface HealthAnswer {
  ok: boolean;
  reason?: string;
}

export interface Health {
  live(): HealthAnswer;
  ready(): HealthAnswer;
  startup(): HealthAnswer;
  report(): Promise<{ ok: boolean; body: object }>;
  stop(): void;
}

interface Probe {
  state: 'up' | 'down' | 'disabled';
  ms: number | null;
  output: string | null;
  at: Date;
}

const probe_ms = 1_000;
const patience_ms = 10_000;
const longest_lag_ms = 5_000;
const oldest_loop_seconds = 30;

/** Probes both stores once a second and remembers what it saw. */
export function watchingHealth(options: HealthOptions): Health {
  let postgres: Probe = { state: 'down', ms: null, output: 'not probed yet', at: new Date() };
  let redis: Probe = options.pingRedis === null ? { ...postgres, state: 'disabled', output: null } : postgres;
  let leader: Leader = { term: null, holder: null, age_ms: null, left_ms: null };
  let lastUp = Number.NEGATIVE_INFINITY;
  let lastTick = performance.now();
  let lag = 0;

  async function probeAll(): Promise<void> {
    const [database, hints] = await Promise.all([
      probe(async () => {
        leader = await options.pingDatabase();
      }),
      options.pingRedis === null ? redis : probe(options.pingRedis),
    ]);
    postgres = database;
    redis = hints;
    if (postgres.state === 'up') lastUp = performance.now();
  }

  let probing = false;
  const timer = setInterval(() => {
    lag = performance.now() - lastTick - probe_ms;
    lastTick = performance.now();
    if (probing) return;
    probing = true;
    void probeAll().finally(() => {
      probing = false;
    });
  }, probe_ms);
  void probeAll();

  function live(): HealthAnswer {
    const behind = Math.max(lag, performance.now() - lastTick - probe_ms);
    return behind < longest_lag_ms
      ? { ok: true }
      : { ok: false, reason: `the event loop is ${Math.round(behind)} ms behind` };
  }

  function ready(): HealthAnswer {
    if (options.draining()) return { ok: false, reason: 'draining' };
    if (!options.started()) return { ok: false, reason: 'starting' };
    // A failover blip must not empty the service: requests meanwhile get a 503 of their own.
    if (performance.now() - lastUp > patience_ms)
      return { ok: false, reason: postgres.output ?? 'postgres is down' };
    return { ok: true };
  }

  return {
    live,
    ready,
    startup: () => (options.started() ? { ok: true } : { ok: false, reason: 'starting' }),
    async report() {
      const isReady = ready();
      const stale = Object.entries(options.loops()).filter(([, age]) => age > oldest_loop_seconds);
      const status =
        !live().ok || !isReady.ok || postgres.state === 'down'
          ? 'fail'
          : redis.state === 'down' || stale.length > 0 || !isLed(leader)
            ? 'warn'
            : 'pass';
      return {
        ok: status !== 'fail',
        body: {
          status,
          releaseId: options.release,
          serviceId: options.holder,
          ...(isReady.ok ? {} : { output: isReady.reason }),
          checks: {
            'postgres:responseTime': [checkOf(postgres, 'fail')],
            'redis:responseTime': [checkOf(redis, 'warn')],
            'dispatcher:leader': [
              {
                status: isLed(leader) ? 'pass' : 'warn',
                ...(leader.holder === null ? {} : { componentId: leader.holder }),
                ...(leader.term === null ? {} : { observedValue: `term ${leader.term}` }),
                ...(isLed(leader) ? { ageSeconds: Math.round((leader.age_ms ?? 0) / 1_000) } : {}),
                ...(isLed(leader) ? {} : { output: 'nobody leads the dispatchers: no schedule fires' }),
                time: postgres.at.toISOString(),
              },
            ],
            'loops:lastSuccess': Object.entries(options.loops()).map(([name, age]) => ({
              componentId: name,
              status: age > oldest_loop_seconds ? 'warn' : 'pass',
              observedValue: Math.round(age * 10) / 10,
              observedUnit: 's',
            })),
          },
        },
      };
    },
    stop: () => clearInterval(timer),
  };
}

const isLed = ({ left_ms }: Leader) => left_ms !== null && left_ms > 0;

async function probe(ping: () => Promise<unknown>): Promise<Probe> {
  const began = performance.now();
  try {
    await ping();
    return {
      state: 'up',
      ms: Math.round((performance.now() - began) * 10) / 10,
      output: null,
      at: new Date(),
    };
  } catch (error) {
    // The message of a driver may hold an address, never a credential: it is for operators.
    return {
      state: 'down',
      ms: null,
      output: inWords(error),
      at: new Date(),
    };
  }
}

/** What is the matter, and why: the reason under a failure is what an operator needs. */
function inWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const words = error.message || ('code' in error ? String(error.code) : error.name);
  return error.cause instanceof Error ? `${words}: ${inWords(error.cause)}` : words;
}

function checkOf(seen: Probe, whenDown: 'fail' | 'warn') {
  return {
    status: seen.state === 'down' ? whenDown : 'pass',
    state: seen.state,
    ...(seen.ms === null ? {} : { observedValue: seen.ms, observedUnit: 'ms' }),
    ...(seen.output === null ? {} : { output: seen.output }),
    time: seen.at.toISOString(),
  };
}
