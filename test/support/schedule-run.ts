// Why this room exists: the stage of the schedule drills: a Postgres of its own, replicas as real processes, and schedules
// that have slots for a known time. The drills add the fault.
// Invariants: what is declared ends by itself, so every slot is known before; replicas are started and ended here only.
// Next room: oracle.ts, which knows the slots; ledger-books.ts, which compares; test/drills/schedules.ts.
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { migrate } from '../../src/store/migrate.ts';
import { type Books, balance } from './ledger-books.ts';
import { type Plan, slotsOf } from './oracle.ts';
import { type Service, startService } from './process.ts';
import { faultProxy } from './proxy.ts';
import { until } from './until.ts';

export interface ScheduleRunOptions {
  folder: string;
  term_seconds: number;
}

export interface ScheduleRun {
  /** The address of the database; it stays the same when Postgres is started again. */
  url: string;
  /** A pool that no fault of a drill is meant for. */
  truth: pg.Pool;
  replicas: Service[];
  /** Starts replica n, or another in its place: on the same port and, unless told otherwise, with the same settings. */
  start(n: number, env?: Record<string, string>): Promise<Service>;
  /** The living replica that holds a term now; undefined: none does. */
  leader(): Promise<Service | undefined>;
  /** Declares the schedules: they have slots for so many seconds, from soon on. */
  declare(plans: readonly Plan[], seconds: number): Promise<void>;
  /** Declares one more, which begins with the second after next; answers when. */
  add(plan: Plan): Promise<Date>;
  /** Seconds until the last slot. */
  left(): number;
  /** Waits for a part of what is left. */
  rest(seconds: number): Promise<void>;
  /** Waits for the last slot and the jobs, then compares what is written with what was due. */
  settle(): Promise<Books>;
  stopPostgres(): Promise<void>;
  startPostgres(): Promise<void>;
  close(): Promise<void>;
}

const handlersDir = fileURLToPath(new URL('./handlers', import.meta.url));
const settle_ms = 60_000;
/** Time for the last schedule to be declared before the first slot. */
const ahead_ms = 3_000;

export async function scheduleRun(options: ScheduleRunOptions): Promise<ScheduleRun> {
  const launch = () =>
    startEmbeddedPostgres({
      dataDir: join(options.folder, 'data'),
      settings: { fsync: 'off', max_connections: '200' },
    });
  let postgres = await launch();
  // A Postgres that is started again has another port; who talks to it must not notice.
  const door = await faultProxy(postgres.port);
  const url = new URL(postgres.url);
  url.port = String(door.port);
  await migrate(url.href);
  const truth = new pg.Pool({ connectionString: url.href, max: 4 });
  truth.on('error', () => {});
  const replicas: Service[] = [];
  const settings: Record<string, string>[] = [];
  let declared: readonly Plan[] = [];
  let [from, to] = [new Date(0), new Date(0)];

  const run: ScheduleRun = {
    url: url.href,
    truth,
    replicas,
    async start(n, env = settings[n] ?? {}) {
      settings[n] = env;
      const port = replicas[n]?.port;
      const started = await startService({
        env: {
          DATABASE_URL: url.href,
          ERRAND_HANDLERS_DIR: handlersDir,
          ERRAND_TERM_SECONDS: String(options.term_seconds),
          ERRAND_LOG_LEVEL: 'warn',
          ...(port === undefined ? {} : { PORT: String(port) }),
          ...env,
        },
      });
      replicas[n] = started;
      return started;
    },
    async leader() {
      const { rows } = await truth.query<{ holder: string }>(
        'select holder from errand.leader where until > clock_timestamp()',
      );
      const holder = rows[0]?.holder;
      const isAlive = ({ child }: Service) => child.exitCode === null && child.signalCode === null;
      return replicas.find((one) => holder?.split(':')[1] === String(one.pid) && isAlive(one));
    },
    async declare(plans, seconds) {
      const now = await truth.query<{ ms: number }>(
        'select extract(epoch from clock_timestamp())::float8 * 1000 ms',
      );
      from = new Date(Math.ceil(((now.rows[0]?.ms ?? 0) + ahead_ms) / 1_000) * 1_000);
      to = new Date(from.getTime() + seconds * 1_000);
      // One that would never fire is refused.
      declared = plans.filter((plan) => slotsOf(plan, from, to).size > 0);
      for (const plan of declared) await put(replicas, plan, from, to);
      if (Date.now() >= from.getTime()) throw new Error('the schedules were not declared in time');
    },
    async add(plan) {
      const first = new Date(Math.ceil(Date.now() / 1_000 + 1) * 1_000);
      declared = [...declared, { ...plan, from: first }];
      await put(replicas, plan, first, to);
      return first;
    },
    left: () => (to.getTime() - Date.now()) / 1_000,
    rest: (seconds) => pause(Math.max(0, Math.min(seconds, run.left())) * 1_000),
    async settle() {
      await run.rest(Infinity);
      const look = () => balance(truth, declared, from, to);
      const isSettled = async () => {
        const { missing, open_jobs } = await look();
        return missing.length === 0 && open_jobs === 0;
      };
      // What has not settled by then is told by the books.
      await until(isSettled, { timeoutMs: settle_ms, everyMs: 500 }).catch(() => {});
      return look();
    },
    async stopPostgres() {
      await door.refuse();
      await postgres.stop();
    },
    async startPostgres() {
      postgres = await launch();
      door.aim(postgres.port);
      await door.heal();
    },
    async close() {
      await Promise.all(replicas.map((replica) => replica?.kill9()));
      await truth.end();
      await door.stop();
      await postgres.stop();
    },
  };
  return run;
}

async function put(replicas: readonly Service[], plan: Plan, from: Date, to: Date): Promise<void> {
  const { name, cron, timezone, queue = 'default' } = plan;
  const service = replicas.find(({ child }) => child.exitCode === null && child.signalCode === null);
  const answer = await fetch(`${service?.url}/v1/schedules/${name}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      cron,
      timezone,
      starts_at: from.toISOString(),
      ends_at: to.toISOString(),
      job: { queue, type: 'slot', payload: { name } },
    }),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`PUT ${name} => ${answer.status} ${text}`);
}
