// Every setting, once: its variable, unit, default and meaning. docs/configuration.md is generated from it.
// Invariants: all faults are told at once, by name; nothing else reads the environment; the values never change.
// Next room: compose.ts.
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { type AddressPolicy, loopbackToo, parsePrivateTargets, publicOnly } from './domain/address.ts';
import { parseSigningSecret } from './domain/signature.ts';

const roles = ['api', 'worker', 'dispatcher'] as const;
/** What a process does. */
export type Role = (typeof roles)[number];

const seconds = (least: number, most: number) => z.coerce.number().min(least).max(most);
const count = (least: number, most: number) => z.coerce.number().int().min(least).max(most);
const databaseUrl = z.string().regex(/^postgres(ql)?:\/\//, 'must begin with postgres:// or postgresql://');

/** Reads a value by a function that throws RangeErrors in words for whoever set it. */
function readBy<T>(parse: (text: string) => T) {
  return (text: string, context: z.RefinementCtx): T => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      context.addIssue(error.message);
      return z.NEVER;
    }
  };
}

/** The schema of the environment. */
export const Environment = z.object({
  PORT: count(0, 65_535).default(8080).describe('Port the API listens on; 0 takes a free one.'),
  HOST: z.string().min(1).default('127.0.0.1').describe('Address the API listens on.'),
  DATABASE_URL: databaseUrl
    .optional()
    .describe('Postgres to use. Absent: an embedded one is started, for trying out and tests.'),
  ERRAND_DIRECT_DATABASE_URL: databaseUrl
    .optional()
    .describe('Postgres without a pooler in between, for migrations and LISTEN. Absent: DATABASE_URL.'),
  ERRAND_POOLER: z
    .enum(['transaction'])
    .optional()
    .describe(
      'transaction: DATABASE_URL leads through PgBouncer, or a pooler like it, in transaction mode ([how](guides/pgbouncer.md)). Absent: straight to Postgres.',
    ),
  REDIS_URL: z
    .string()
    .regex(/^rediss?:\/\//, 'must begin with redis:// or rediss://')
    .optional()
    .describe(
      'Redis for hints between replicas. Absent: none; everything works, waits over replicas poll more.',
    ),
  ERRAND_DATA_DIR: z.string().min(1).default('.errand').describe('Folder of the embedded Postgres.'),
  ERRAND_ROLES: z
    .string()
    .default('all')
    .transform((text) => [...new Set(text.split(',').map((role) => role.trim()))])
    .pipe(z.array(z.enum([...roles, 'all'], `must be a list of ${roles.join(', ')}, or all`)).min(1))
    .transform((list): Role[] => (list.includes('all') ? [...roles] : (list as Role[])))
    .describe('What this process does: api, worker, dispatcher, several with commas, or all.'),
  ERRAND_PROCESSES: count(1, 64)
    .default(1)
    .describe(
      'Processes that share the port, to use more cores of one machine ([more cores](guides/operations.md#more-cores)). Every limit, pool and concurrency named here is that of each.',
    ),
  ERRAND_AUTH: z.enum(['off']).optional().describe('off: no authentication. Implied on loopback only.'),
  ERRAND_HANDLERS_DIR: z
    .string()
    .min(1)
    .optional()
    .describe('Folder of handler modules, each with a default export made by defineHandler. Absent: none.'),
  ERRAND_HANDLER_CONCURRENCY: count(1, 10_000)
    .default(50)
    .describe('Jobs that handlers of this process run at once.'),
  ERRAND_HANDLER_THREADS: count(1, 256)
    .optional()
    .describe(
      'Threads for handlers that ask for one; as many of their jobs run at once. Absent: one for each core, shared among ERRAND_PROCESSES.',
    ),
  ERRAND_PUSH_CONCURRENCY: count(1, 10_000)
    .default(128)
    .describe('Requests to targets that this process has under way at once.'),
  ERRAND_PRIVATE_TARGETS: z
    .string()
    .transform(readBy(parsePrivateTargets))
    .optional()
    .describe(
      'Addresses besides public ones that targets may have: none, loopback, CIDRs, several with commas. Absent: loopback where HOST is loopback, else none.',
    ),
  ERRAND_SIGNING_SECRETS: z
    .string()
    .transform(readBy((text) => text.split(',').map((one) => parseSigningSecret(one.trim()))))
    .optional()
    .describe(
      'Secrets that sign pushes, `whsec_` and base64, several with commas, the newest first. Absent: one is made and kept in the database.',
    ),
  ERRAND_STRICT_QUEUES: z
    .enum(['true', 'false'], 'must be true or false')
    .default('false')
    .transform((text) => text === 'true')
    .describe(
      'true: a submit to a queue that nobody has made is refused; queues that jobs have named before exist. false: a queue exists once it is named.',
    ),
  ERRAND_LEASE_SECONDS: count(1, 3_600)
    .default(30)
    .describe('How long a lease lasts without a heartbeat, in seconds.'),
  ERRAND_TERM_SECONDS: seconds(1, 300)
    .default(15)
    .describe(
      'How long the dispatcher that leads keeps its office without renewing it, in seconds: schedules fire late by as much when it dies.',
    ),
  ERRAND_SCHEDULES: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Schedules to define at start, YAML as for `errand schedules apply`; usually as ERRAND_SCHEDULES_FILE. A fault in it refuses the start.',
    ),
  ERRAND_LEDGER_DAYS: count(1, 3_650)
    .default(90)
    .describe('How long the ledger of schedules remembers what became of a slot, in days.'),
  ERRAND_STATISTICS_HOURS: count(1, 8_760)
    .default(24)
    .describe('How long statistics by the minute are kept, in hours.'),
  ERRAND_WAIT_DEFAULT_SECONDS: seconds(0.1, 300)
    .default(10)
    .describe('How long a demand for an answer now waits when the caller names no time, in seconds.'),
  ERRAND_WAIT_CAP_SECONDS: seconds(0.1, 300)
    .default(25)
    .describe('Longest wait of any call, in seconds; keep it below the idle limit of proxies.'),
  ERRAND_MAX_WAITERS: count(1, 100_000)
    .default(5_000)
    .describe('Callers that may wait in this process at once.'),
  ERRAND_MAX_STREAMS: count(1, 100_000).default(2_000).describe('Event streams this process serves at once.'),
  ERRAND_PAYLOAD_LIMIT_BYTES: count(1, 64 * 1024 * 1024)
    .default(256 * 1024)
    .describe('Largest payload and largest result, in bytes.'),
  ERRAND_START_WAIT_SECONDS: seconds(0, 3_600)
    .optional()
    .describe(
      'How long a start waits for a Postgres that does not answer, or for a schema that is older, in seconds; meanwhile only probes are answered. Absent: 60, on loopback 0.',
    ),
  ERRAND_DRAIN_DELAY_SECONDS: seconds(0, 120)
    .optional()
    .describe(
      'How long to serve on after SIGTERM so that balancers notice, in seconds; up to as long again while new connections still come. Absent: 5, on loopback 0.',
    ),
  ERRAND_DRAIN_DEADLINE_SECONDS: seconds(1, 600)
    .default(20)
    .describe('When a drain ends whatever still runs, counted from SIGTERM, in seconds.'),
  ERRAND_INTAKE_CONNECTIONS: count(1, 100)
    .default(3)
    .describe('Postgres connections of this process for submits.'),
  ERRAND_ENGINE_CONNECTIONS: count(2, 100)
    .default(5)
    .describe('Postgres connections of this process for claims, heartbeats and settles.'),
  ERRAND_READ_CONNECTIONS: count(1, 100)
    .default(4)
    .describe('Postgres connections of this process for reads and control.'),
  ERRAND_STATEMENT_TIMEOUT_SECONDS: seconds(0.5, 60)
    .default(4)
    .describe('Longest run of one database statement, in seconds; the caller gives up a second later.'),
  ERRAND_TEST_CLOCK: z
    .enum(['true', 'false'], 'must be true or false')
    .default('false')
    .transform((text) => text === 'true')
    .describe(
      'true: `POST /test/clock` moves the time by which jobs are due, for tests on a database of their own; refused where NODE_ENV is production.',
    ),
  ERRAND_LOG_LEVEL: z
    .enum(['debug', 'info', 'warn', 'error', 'silent'])
    .default('info')
    .describe('Least level that is logged.'),
});

/** The settings of this process. */
export type Config = Readonly<z.output<typeof Environment>> & {
  readonly isLoopback: boolean;
  readonly startWaitSeconds: number;
  readonly drainDelaySeconds: number;
  readonly privateTargets: AddressPolicy;
  readonly handlerThreads: number;
};

/** All faults of an environment, one line each. */
export class ConfigError extends Error {
  readonly faults: readonly string[];
  constructor(faults: readonly string[]) {
    super(`errand cannot start:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`);
    this.faults = faults;
  }
}

/** Reads the settings; throws {@link ConfigError} with every fault. `NAME_FILE` may hold the path of NAME's value. */
export function readConfig(env: Readonly<Record<string, string | undefined>> = process.env): Config {
  const faults: string[] = [];
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    // What the client examples are told: whoever exports it may start a service in the same shell.
    if (name === 'ERRAND_URL') continue;
    const target = name.replace(/_FILE$/, '');
    if (value === undefined || value === '' || !(target in Environment.shape)) {
      if (name.startsWith('ERRAND_') && !name.startsWith('ERRAND_TEST_'))
        faults.push(`${name} is not a setting${nearest(name)}`);
      continue;
    }
    if (target === name) given[name] ??= value;
    else {
      try {
        given[target] = readFileSync(value, 'utf8').trim();
      } catch {
        faults.push(`${name} names the file "${value}", which cannot be read`);
      }
    }
  }
  const parsed = Environment.safeParse(given);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const name = String(issue.path[0]);
      const shown = /URL|SECRET/.test(name) ? '' : ` "${given[name]}"`;
      faults.push(`${name}${shown}: ${issue.message}`);
    }
    throw new ConfigError(faults);
  }
  if (parsed.data.ERRAND_TEST_CLOCK && env.NODE_ENV === 'production') {
    faults.push('ERRAND_TEST_CLOCK is for tests and NODE_ENV is "production"; unset one of the two');
  }
  if (parsed.data.ERRAND_TEST_CLOCK && parsed.data.ERRAND_PROCESSES > 1) {
    faults.push(
      `ERRAND_PROCESSES "${parsed.data.ERRAND_PROCESSES}": the clock of tests moves one process; unset it or ERRAND_TEST_CLOCK`,
    );
  }
  const isLoopback = /^(127\.|::1$|localhost$)/.test(parsed.data.HOST);
  if (!isLoopback && parsed.data.ERRAND_AUTH === undefined) {
    faults.push(
      `HOST "${parsed.data.HOST}" is not loopback and nothing authenticates callers; set ERRAND_AUTH=off to allow that`,
    );
  }
  if (parsed.data.ERRAND_POOLER !== undefined) {
    for (const name of ['DATABASE_URL', 'ERRAND_DIRECT_DATABASE_URL'] as const) {
      if (parsed.data[name] === undefined) faults.push(`${name}: needed where ERRAND_POOLER is set`);
    }
  }
  if (faults.length > 0) throw new ConfigError(faults);
  return Object.freeze({
    ...parsed.data,
    isLoopback,
    startWaitSeconds: parsed.data.ERRAND_START_WAIT_SECONDS ?? (isLoopback ? 0 : 60),
    drainDelaySeconds: parsed.data.ERRAND_DRAIN_DELAY_SECONDS ?? (isLoopback ? 0 : 5),
    handlerThreads:
      parsed.data.ERRAND_HANDLER_THREADS ??
      Math.max(1, Math.floor(availableParallelism() / parsed.data.ERRAND_PROCESSES)),
    privateTargets: parsed.data.ERRAND_PRIVATE_TARGETS ?? (isLoopback ? loopbackToo : publicOnly),
  });
}

function nearest(name: string): string {
  const known = Object.keys(Environment.shape).find((other) => other.startsWith(name.slice(0, 10)));
  return known === undefined ? '' : `; did you mean ${known}?`;
}

/** docs/configuration.md. */
export function configurationPage(): string {
  const rows = Object.entries(Environment.shape).map(([name, schema]) => {
    const parsed = (schema as z.ZodType).safeParse(undefined);
    const fallback = parsed.success && parsed.data !== undefined ? `\`${String(parsed.data)}\`` : '';
    const shown = name === 'ERRAND_ROLES' ? '`all`' : fallback;
    return `| \`${name}\` | ${shown} | ${(schema as z.ZodType).description ?? ''} |`;
  });
  return [
    '# Configuration',
    '',
    'Every setting is an environment variable. `NAME_FILE` may name a file that holds the value of `NAME`, which is how',
    'secrets are mounted. All faults are told at once at start, and an unknown `ERRAND_` variable is one of them.',
    '',
    '| variable | default | meaning |',
    '| --- | --- | --- |',
    ...rows,
    '',
    '<!-- generated from src/config.ts by docs/generate.ts -->',
    '',
  ].join('\n');
}
