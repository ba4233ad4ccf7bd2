// Why this room exists: what to ask is made out of the document alone: parameters, headers and bodies as the schemas of an
// operation allow them, and the same with something wrong or odd.
// Invariants: one seed, the same requests; a request that the schemas allow breaks none of `rules` either, so nothing
// excuses its refusal.
// Next room: arbitraries.ts for the values; world.ts, which has jobs and leases in every state.
import fc from 'fast-check';
import { Arbitraries, crooked, type Favourites, type Rule } from './arbitraries.ts';
import type { Document, Operation, Parameter, Schema } from './contract.ts';

/** A request to be: ids are chosen only when it is sent. */
export interface Plan {
  ids: readonly (number | string)[];
  query: readonly (readonly [string, string])[];
  headers: Readonly<Record<string, string>>;
  body: Body | null;
  /** Whether the document allows all of it. */
  isAllowed: boolean;
}

interface Body {
  type: string | null;
  text: string | Uint8Array;
}

// What a patch says of these must fit what it is laid upon, which no schema knows.
const ofWhole = {
  SchedulePatch: new Set(['cron', 'every_seconds', 'starts_at', 'ends_at', 'jitter_seconds']),
  ScheduledJobPatch: new Set(['backoff', 'target', 'callback', 'unique']),
  QueuePatch: new Set(['sync', 'default_wait_seconds', 'refuse_late_waits', 'defaults', 'types']),
};

// What is refused although a schema allows it; nothing else may be.
const rules: readonly Rule[] = [
  {
    says: 'an action is given only what means something for it',
    breaks({ action, target, params = {} }, schema) {
      if (schema !== 'NewAction') return false;
      const { filter = {}, states, limit = null } = params as Record<string, unknown>;
      const isLetters = action === 'dead_letters.discard';
      const takesAll = action === 'queue.delete_force';
      return (
        (target === '*' && !isLetters) ||
        Object.keys(filter as object).length > 0 ||
        (states !== undefined && (isLetters || takesAll || action === 'queue.purge')) ||
        (limit !== null && takesAll)
      );
    },
  },
  {
    says: 'run_at and delay_seconds exclude each other',
    breaks: ({ run_at, delay_seconds }) => run_at != null && delay_seconds != null,
  },
  {
    says: 'expires_at is later than run_at',
    breaks: ({ run_at, expires_at }) => Date.parse(String(expires_at)) <= Date.parse(String(run_at)),
  },
  {
    says: 'delays_seconds goes with strategy list, and only with it',
    breaks: ({ strategy, delays_seconds }) => (strategy === 'list') !== (delays_seconds !== undefined),
  },
  {
    says: 'base_seconds is at most cap_seconds',
    breaks: ({ base_seconds = 2, cap_seconds = 900 }) => Number(base_seconds) > Number(cap_seconds),
  },
  {
    says: 'where nobody waits, nothing is said of waits',
    breaks: ({ sync, default_wait_seconds, refuse_late_waits }) =>
      sync === 'async_only' && (default_wait_seconds != null || refuse_late_waits === true),
  },
  {
    says: 'a pause or a drain ends later than now',
    breaks: ({ until, deadline }) =>
      [until, deadline].some((end) => Date.parse(String(end)) < Date.now() + 60_000),
  },
  {
    says: 'while of unique contains queued, and rerun knows no window_seconds',
    breaks: ({ while: states = ['queued'], window_seconds, on_conflict }, schema) =>
      schema === 'Unique' &&
      (!(states as string[]).includes('queued') || (on_conflict === 'rerun' && window_seconds != null)),
  },
  {
    says: 'a slot has no caller who could be told of a conflict',
    breaks: ({ unique }, schema) =>
      schema === 'ScheduledJob' && (unique as { on_conflict?: string } | undefined)?.on_conflict === 'reject',
  },
  {
    says: 'either cron or every_seconds says when the slots are',
    breaks: ({ cron, every_seconds }, schema) =>
      schema === 'NewSchedule' && (cron == null) === (every_seconds == null),
  },
  {
    says: 'jitter_seconds is at most the time between two slots, and a slot lies between starts_at and ends_at',
    breaks: ({ jitter_seconds = 0, every_seconds, starts_at, ends_at }, schema) =>
      schema === 'NewSchedule' &&
      (Number(jitter_seconds) > Math.min(60, Number(every_seconds ?? 60)) ||
        Date.parse(String(ends_at)) - Date.parse(String(starts_at)) < 32 * 86_400_000),
  },
];

// What only we can give: no schema says which texts are a cursor, or the id of an event the job has had.
const given: ReadonlySet<string> = new Set(['cursor', 'after', 'Last-Event-ID']);

/** Makes requests for the operations of one document. */
export class Plans {
  readonly #arbitraries: Arbitraries;

  constructor(document: Document, favourites: Favourites) {
    this.#arbitraries = new Arbitraries(document.components.schemas, favourites, rules, ofWhole);
  }

  /** Requests of an operation: half as its document allows, half with something wrong or odd. */
  of(operation: Operation): fc.Arbitrary<Plan> {
    const allowed = this.#allowed(operation);
    const odd = fc.tuple(allowed, fc.oneof(...this.#twists(operation)));
    return fc.oneof(
      allowed,
      odd.map(([plan, twist]) => twisted(plan, twist)),
    );
  }

  #allowed({ path, object: { parameters = [], requestBody } }: Operation): fc.Arbitrary<Plan> {
    const bodies = Object.entries(requestBody?.content ?? {}).map(([type, { schema }]) =>
      this.#bodies(type, schema),
    );
    const someBody = bodies.length === 0 ? fc.constant(null) : fc.oneof(...bodies);
    const parts = fc.record({
      ids: forEachId(path, fc.nat(1_000)),
      query: this.#queries(parameters.filter((one) => one.in === 'query')),
      headers: headersOf(parameters.filter((one) => one.in === 'header' && !given.has(one.name))),
      body: requestBody?.required === true ? someBody : fc.option(someBody, { freq: 4 }),
    });
    return parts.filter((plan) => !hasTwoKeys(plan)).map((plan) => ({ ...plan, isAllowed: true }));
  }

  #bodies(type: string, schema: Schema): fc.Arbitrary<Body> {
    if (isJson(type)) {
      return this.#arbitraries.fitting(schema).map((value) => ({ type, text: JSON.stringify(value) }));
    }
    const types = type.includes('*') ? ['text/plain', 'application/octet-stream'] : [type];
    return fc.record({ type: fc.constantFrom(...types), text: fc.uint8Array({ maxLength: 200 }) });
  }

  #queries(parameters: readonly Parameter[]): fc.Arbitrary<Plan['query']> {
    const plain = parameters.filter(({ name }) => !given.has(name));
    const members = plain.map(({ name, schema }) => [name, this.#arbitraries.fitting(schema)] as const);
    const requiredKeys = plain.filter(({ required }) => required).map(({ name }) => name);
    return fc
      .record(Object.fromEntries(members), { requiredKeys })
      .map((query) =>
        Object.entries(query).flatMap(([name, value]) =>
          [value].flat().map((one) => [name, String(one)] as const),
        ),
      );
  }

  /** Ways to make a request one that its document does not allow, or odd where it does not say. */
  #twists({ object, path }: Operation): fc.WeightedArbitrary<Partial<Plan>>[] {
    const { parameters = [], requestBody } = object;
    const names = (where: Parameter['in']) =>
      parameters.filter((one) => one.in === where).map(({ name }) => name);
    const headers = fc.constantFrom(...names('header'), ...oddHeaders);
    const queries = fc.constantFrom(...names('query'), 'unknown', '__proto__');
    const bodies = Object.entries(requestBody?.content ?? {}).flatMap(([type, { schema }]) => {
      const values = crooked(this.#arbitraries.fitting(schema));
      return oddBodies(
        type,
        values.map((value) => JSON.stringify(value)),
      );
    });
    return [
      ...bodies.map(({ weight, arbitrary }) => ({ weight, arbitrary: arbitrary.map((body) => ({ body })) })),
      {
        weight: 2,
        arbitrary: fc
          .dictionary(headers, oddTexts, { minKeys: 1, maxKeys: 2 })
          .map((some) => ({ headers: some })),
      },
      {
        weight: 2,
        arbitrary: fc
          .array(fc.tuple(queries, oddTexts), { minLength: 1, maxLength: 2 })
          .map((query) => ({ query })),
      },
      { weight: path.includes('{') ? 3 : 0, arbitrary: forEachId(path, oddIds).map((ids) => ({ ids })) },
    ];
  }
}

function isJson(type: string): boolean {
  return /[/+]json$/.test(type);
}

/** The key of a call and keys of its jobs exclude each other: a rule between a header and a body. */
function hasTwoKeys({ headers, body }: Pick<Plan, 'headers' | 'body'>): boolean {
  return headers['Idempotency-Key'] !== undefined && String(body?.text).includes('"idempotency_key"');
}

function forEachId<T>(path: string, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T[]> {
  return fc.tuple(...[...path.matchAll(/\{/g)].map(() => arbitrary));
}

function twisted(plan: Plan, twist: Partial<Plan>): Plan {
  return { ...plan, ...twist, headers: { ...plan.headers, ...twist.headers }, isAllowed: false };
}

// Values that headers have by their meaning, which their schemas do not tell.
const demands = fc.constantFrom('202-accepted', '200-ok', '201-created', '204-no-content');
const tags = fc.constantFrom('*', '"q0.0"', 'W/"o1.1", "r1.1"');
const meaningful: Readonly<Record<string, fc.Arbitrary<string>>> = {
  Expect: fc.oneof(demands, fc.constantFrom('100-continue', '100-continue, 200-ok')),
  'Errand-Expect': demands,
  Prefer: fc.constantFrom('wait=1', 'wait=0', 'respond-async', 'return=minimal', 'wait=20, return=minimal'),
  'Idempotency-Key': fc.oneof(
    { weight: 1, arbitrary: fc.constant('"one"') },
    { weight: 6, arbitrary: fc.uuid() },
  ),
  'If-None-Match': tags,
  'If-Match': tags,
};

function headersOf(parameters: readonly Parameter[]): fc.Arbitrary<Record<string, string>> {
  const known = parameters.flatMap(({ name }) => {
    const values = meaningful[name];
    return values === undefined ? [] : [[name, values] as const];
  });
  return fc.record(Object.fromEntries(known), { requiredKeys: [] }).map((chosen) => {
    const pairs = Object.entries(chosen) as [string, string][];
    // The two that may contradict each other are refused together, so at most one of them is sent.
    return Object.fromEntries(pairs.filter(([name]) => name !== 'Expect' || !('Errand-Expect' in chosen)));
  });
}

const words = (text: string) => text.split(' ');
const oddHeaders = words('Expect Content-Encoding X-Request-Id Accept Prefer If-Match Cookie Via');
const oddTexts = fc.oneof(
  fc.constantFrom(
    ...words('0 -1 1e9 null bogus wait=99999999999999999999 wait=-1 gzip " 200-ok true a,b * %'),
  ),
  fc.constantFrom('', ' ', '2026-13-01', 'x'.repeat(3_000), 'x'.repeat(20_000)),
  fc.stringMatching(/^[\x20-\x7e\xa0-\xff]{0,40}$/),
);
const oddIds = fc.oneof(
  fc.constantFrom(...words('0 -1 01 1.5 9223372036854775807 9223372036854775808 .. . é lse_ lse_x % %ff')),
  fc.constantFrom('__proto__', ' ', '\0', "1' or '1'='1", '9'.repeat(40), 'x'.repeat(150)),
  fc.string({ maxLength: 20, minLength: 1 }).filter((text) => !text.startsWith('%')),
);
const oddTypes = fc.constantFrom(
  null,
  ...['', 'json', 'text/plain', 'application/xml', 'application/jsonx', 'application/problem+json'],
  ...[
    'application/json; charset=latin1',
    'application/json; charset=utf-8',
    'multipart/form-data; boundary=x',
  ],
);

/** Bodies that are wrong in what they hold, in how they are written, or in what they are called. */
function oddBodies(type: string, texts: fc.Arbitrary<string>): fc.WeightedArbitrary<Body>[] {
  const usual = isJson(type) ? type : 'application/json';
  return [
    { weight: 6, arbitrary: texts.map((text) => ({ type: usual, text })) },
    { weight: 2, arbitrary: broken(texts).map((text) => ({ type: usual, text })) },
    { weight: 1, arbitrary: fc.record({ type: oddTypes, text: texts }) },
  ];
}

/** Texts and bytes that are nearly JSON. */
function broken(texts: fc.Arbitrary<string>): fc.Arbitrary<string | Uint8Array> {
  return fc.oneof(
    texts.map((text) => text.slice(0, -1)),
    texts.map((text) => `${text},`),
    texts.map((text) => `\ufeff${text}`),
    fc.constantFrom('', ' ', '{', '[1', 'nul', '{"payload":1e400}', '{"limit":1e999}', '{"a":"\\ud800"}'),
    fc.constant('{"type":"a","type":"a","limit":1,"limit":1,"class":"poison","class":"poison"}'),
    fc.constant(`${'['.repeat(5_000)}${']'.repeat(5_000)}`),
    fc.constant(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d])),
    fc.uint8Array({ maxLength: 40 }),
  );
}
