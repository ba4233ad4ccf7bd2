// What can be set of a queue and of the job types in it (docs/contract.md, Queues).
// Invariants: settings that contradict each other are refused as a whole; a queue that nobody has set anything of has the
// defaults, one frozen object for all of them.
// Next room: actions/levers.ts, which has them in memory; acceptance.ts, which goes by them.
import { z } from 'zod';
import { Backoff, type BackoffPolicy } from './backoff.ts';
import { namePattern } from './job.ts';

const ten_years_in_seconds = 315_360_000;
const most_types = 200;

const policy = {
  max_attempts: z.int().min(1).max(100).nullable().default(null).describe('Attempts before a job is dead.'),
  timeout_seconds: z
    .int()
    .min(1)
    .max(86_400)
    .nullable()
    .default(null)
    .describe('Longest run of one attempt, in seconds.'),
  backoff: Backoff.nullable().default(null),
  max_age_seconds: z
    .int()
    .min(1)
    .max(ten_years_in_seconds)
    .nullable()
    .default(null)
    .describe('No new attempt once a job is older, counted from when it was due first.'),
};

const RetryDefaults = z.strictObject(policy).meta({
  id: 'RetryDefaults',
  description: 'What jobs have that do not say otherwise; null: not set here.',
});

const TypeSettings = z
  .strictObject({
    ...policy,
    outcome: z
      .enum(['none', 'result', 'resource'])
      .nullable()
      .default(null)
      .describe(
        'What its jobs leave: none suits 204-no-content, result 200-ok, resource 201-created, and no other demand is taken.',
      ),
  })
  .meta({
    id: 'TypeSettings',
    description: 'What is set of one type of jobs; it comes before the defaults.',
  });

const noDefaults = { max_attempts: null, timeout_seconds: null, backoff: null, max_age_seconds: null };

/** The settings of a queue as they are sent and kept: the body of `PUT /v1/queues/{queue}`. */
export const QueueSettings = z
  .strictObject({
    sync: z
      .enum(['allowed', 'async_only', 'sync_only'])
      .default('allowed')
      .describe('Whether callers may wait for the outcome, or have to.'),
    default_wait_seconds: z
      .number()
      .min(0.1)
      .max(300)
      .nullable()
      .default(null)
      .describe('How long a demand waits that names no time; null: ERRAND_WAIT_DEFAULT_SECONDS.'),
    require_idempotency_key: z
      .boolean()
      .default(false)
      .describe('Whether a submit without Idempotency-Key is refused.'),
    refuse_late_waits: z
      .boolean()
      .default(false)
      .describe('Whether a demand is refused that the present rates say will not be met in time.'),
    max_depth: z
      .int()
      .min(1)
      .max(1_000_000_000)
      .nullable()
      .default(null)
      .describe('Ready jobs above which submits are refused; null: no limit.'),
    max_oldest_age_seconds: z
      .int()
      .min(1)
      .max(ten_years_in_seconds)
      .nullable()
      .default(null)
      .describe('Age of the oldest ready job above which submits are refused; null: no limit.'),
    critical_priority: z
      .int()
      .min(0)
      .max(9)
      .nullable()
      .default(0)
      .describe('Submits of this priority, or a more urgent one, pass the two limits; null: none does.'),
    defaults: RetryDefaults.default(noDefaults),
    types: z
      .record(z.string().regex(namePattern, 'is no name of a type'), TypeSettings)
      .default({})
      .describe('Settings by type of job.'),
  })
  .superRefine((settings, context) => {
    for (const [member, why] of contradictionsIn(settings))
      context.addIssue({ code: 'custom', path: [member], message: why });
  })
  .meta({ id: 'QueueSettings', description: 'What is set of a queue.' });

/** Settings with their defaults filled in. */
export type QueueSettings = z.output<typeof QueueSettings>;

/** What a job gets that does not say otherwise; null: nothing is set. */
export interface RetryDefaults {
  readonly max_attempts: number | null;
  readonly timeout_seconds: number | null;
  readonly backoff: BackoffPolicy | null;
  readonly max_age_seconds: number | null;
}

/** The settings of a queue that nobody has set anything of. */
export const unsetQueue: QueueSettings = deepFrozen(QueueSettings.parse({}));

/** Settings as they were kept, by this release or by another: what it did not know has its default. */
export function settingsFrom(stored: Partial<QueueSettings>): QueueSettings {
  return deepFrozen({
    ...unsetQueue,
    ...stored,
    defaults: { ...noDefaults, ...stored.defaults },
    types: Object.fromEntries(
      Object.entries(stored.types ?? {}).map(([type, one]) => [
        type,
        { ...noDefaults, ...one, outcome: one.outcome ?? null },
      ]),
    ),
  });
}

/** What jobs of a type get that do not say otherwise: what is set of the type, else of the queue. */
export function retryDefaultsOf(settings: QueueSettings, type: string): RetryDefaults {
  const own = Object.hasOwn(settings.types, type) ? settings.types[type] : undefined;
  if (own === undefined) return settings.defaults;
  const { defaults } = settings;
  return {
    max_attempts: own.max_attempts ?? defaults.max_attempts,
    timeout_seconds: own.timeout_seconds ?? defaults.timeout_seconds,
    backoff: own.backoff ?? defaults.backoff,
    max_age_seconds: own.max_age_seconds ?? defaults.max_age_seconds,
  };
}

type Asked = Pick<QueueSettings, 'sync' | 'default_wait_seconds' | 'refuse_late_waits' | 'types'>;

/** What cannot be meant together: the member to blame, and why. */
function contradictionsIn(settings: Asked): [string, string][] {
  const { sync, default_wait_seconds, refuse_late_waits, types } = settings;
  const found: [string, string][] = [];
  if (sync === 'async_only' && default_wait_seconds !== null)
    found.push([
      'default_wait_seconds',
      'does not go together with sync async_only, where nobody waits; leave one of them out',
    ]);
  if (sync === 'async_only' && refuse_late_waits)
    found.push([
      'refuse_late_waits',
      'does not go together with sync async_only, where nobody waits; leave one of them out',
    ]);
  if (Object.keys(types).length > most_types) found.push(['types', `must name at most ${most_types} types`]);
  return found;
}

function deepFrozen<T>(value: T): T {
  if (value !== null && typeof value === 'object') {
    for (const member of Object.values(value)) deepFrozen(member);
    Object.freeze(value);
  }
  return value;
}
