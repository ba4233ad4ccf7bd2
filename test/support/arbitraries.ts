// Why this room exists: requests are made up out of the schemas of the OpenAPI document, so that a new route is asked
// without anybody writing a test for it.
// Invariant: `fitting` gives values its schema allows, `crooked` bends one of them; both are decided by the seed (and, for
// moments near the present, by the clock).
// Next room: fuzz.ts, which makes requests of them.
import fc from 'fast-check';
import type { Schema } from './contract.ts';

type Json = Readonly<Record<string, unknown>>;

/** Values that lead somewhere, by the name of their member: a random type is one that nobody runs. */
export type Favourites = Readonly<Record<string, readonly unknown[]>>;

/** A rule that no schema can state, as the document's words do. */
export interface Rule {
  readonly says: string;
  /** Whether an object of the schema of this name breaks it. */
  breaks(object: Json, schema: string | undefined): boolean;
}

/** Makes arbitraries out of the schemas of one document. */
export class Arbitraries {
  readonly #schemas: Readonly<Record<string, Schema>>;
  readonly #favourites: Favourites;
  readonly #rules: readonly Rule[];
  readonly #ofWhole: Readonly<Record<string, ReadonlySet<string>>>;

  /** `ofWhole`: members, by schema, that are left out because only the whole they belong to can judge them. */
  constructor(
    schemas: Readonly<Record<string, Schema>>,
    favourites: Favourites,
    rules: readonly Rule[],
    ofWhole: Readonly<Record<string, ReadonlySet<string>>>,
  ) {
    this.#schemas = schemas;
    this.#favourites = favourites;
    this.#rules = rules;
    this.#ofWhole = ofWhole;
  }

  /** Values that the schema and the rules allow. */
  fitting(schema: Schema, name?: string): fc.Arbitrary<unknown> {
    if (typeof schema.$ref === 'string') {
      const referred = schema.$ref.split('/').at(-1) as string;
      return this.fitting(this.#schemas[referred] as Schema, referred);
    }
    if ('const' in schema) return fc.constant(schema.const);
    if (Array.isArray(schema.enum)) return fc.constantFrom(...(schema.enum as unknown[]));
    const choices = schema.anyOf ?? schema.oneOf;
    if (Array.isArray(choices)) return fc.oneof(...(choices as Schema[]).map((one) => this.fitting(one)));
    if (Array.isArray(schema.type)) {
      return fc.oneof(...(schema.type as string[]).map((type) => this.fitting({ ...schema, type })));
    }
    switch (schema.type) {
      case 'string':
        return texts(schema);
      case 'integer':
        return integers(schema);
      case 'number':
        return fc.double({ ...range(schema, 1e15), noNaN: true, noDefaultInfinity: true });
      case 'boolean':
        return fc.boolean();
      case 'null':
        return fc.constant(null);
      case 'array':
        return this.#arrays(schema);
      case 'object':
        return this.#objects(schema, name);
      default:
        return fc.jsonValue({ maxDepth: 3 });
    }
  }

  #arrays({ items = {}, minItems = 0, maxItems = Number.POSITIVE_INFINITY, uniqueItems }: Schema) {
    const minLength = Number(minItems);
    const size = { minLength, maxLength: Math.min(Number(maxItems), minLength + 4) };
    const item = this.fitting(items as Schema);
    return uniqueItems === true ? fc.uniqueArray(item, size) : fc.array(item, size);
  }

  #objects(
    { properties = {}, required = [], additionalProperties }: Schema,
    name: string | undefined,
  ): fc.Arbitrary<unknown> {
    const members = Object.entries(properties as Record<string, Schema>)
      .filter(([member]) => this.#ofWhole[name ?? '']?.has(member) !== true)
      .map(([member, schema]) => [member, this.#member(member, schema)] as const);
    const known = fc
      .record(Object.fromEntries(members), { requiredKeys: required as string[] })
      .filter((object) => !this.#rules.some((rule) => rule.breaks(object, name)));
    if (members.length > 0 || additionalProperties === false) return known;
    const more = this.fitting((additionalProperties as Schema | undefined) ?? {});
    return fc.dictionary(fc.stringMatching(/^[a-z][a-z0-9-]{0,9}$/), more, { maxKeys: 4 });
  }

  #member(name: string, schema: Schema): fc.Arbitrary<unknown> {
    const favourites = this.#favourites[name];
    if (favourites === undefined || !canBeText(schema)) return this.fitting(schema);
    // What is named here is called: nobody but this machine may be. And which texts are a cron no schema can say.
    if (schemaless.has(name))
      return fc.constantFrom(...favourites, ...(schema.type === 'string' ? [] : [null]));
    return fc.oneof(fc.constantFrom(...favourites), this.fitting(schema));
  }
}

const schemaless: ReadonlySet<string> = new Set(['url', 'cron', 'timezone']);

function canBeText({ type, anyOf }: Schema): boolean {
  const types = [type, ...((anyOf ?? []) as Schema[]).map((one) => one.type)].flat();
  return (
    types.includes('string') && types.every((one) => one === undefined || one === 'string' || one === 'null')
  );
}

function integers({ multipleOf = 1, ...schema }: Schema): fc.Arbitrary<number> {
  const { min, max } = range(schema, 2 ** 31 - 1);
  const step = Number(multipleOf);
  return fc.integer({ min: Math.ceil(min / step), max: Math.floor(max / step) }).map((times) => times * step);
}

function range({ minimum, maximum, exclusiveMinimum }: Schema, most: number): { min: number; max: number } {
  const min = Number(minimum ?? (exclusiveMinimum === undefined ? -most : Number(exclusiveMinimum) + 1));
  return { min, max: Number(maximum ?? most) };
}

// JSON schema counts code points. U+0000 is left to the crooked: no text outside a payload may hold it.
const letter = fc.oneof(
  { weight: 3, arbitrary: fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 1 }) },
  // All but U+0000 and the surrogates; the unit "binary" of fast-check would first make a table of all of Unicode.
  fc.integer({ min: 1, max: 0x10_f7ff }).map((n) => String.fromCodePoint(n < 0xd800 ? n : n + 0x800)),
);

function texts({ pattern, format, minLength = 0, maxLength }: Schema): fc.Arbitrary<string> {
  if (format === 'date-time') return moments;
  if (typeof pattern === 'string') return matching(pattern, Number(maxLength ?? Number.POSITIVE_INFINITY));
  const least = Number(minLength);
  const most = Number(maxLength ?? 80);
  const some = fc.string({ unit: letter, minLength: least, maxLength: Math.min(most, least + 80) });
  // As long as may be, in letters that take two units of UTF-16 each.
  return most > 5_000
    ? some
    : fc.oneof({ weight: 7, arbitrary: some }, fc.constant('\u{1f980}'.repeat(most)));
}

// fast-check knows no look-around; what comes out is held against the whole pattern.
function matching(pattern: string, maxLength: number): fc.Arbitrary<string> {
  const whole = new RegExp(pattern, 'u');
  const plain = new RegExp(pattern.replaceAll(/\(\?<?[=!](\[[^\]]*\]|[^()])*\)/g, ''));
  return fc.stringMatching(plain).filter((text) => whole.test(text) && text.length <= maxLength);
}

const day_ms = 86_400_000;

/** RFC 3339, soon or at any time, with every kind of offset and fraction. */
const moments = fc
  .tuple(
    fc.oneof(
      fc.integer({ min: Date.now() - day_ms, max: Date.now() + day_ms }),
      fc.integer({ min: Date.parse('1971-01-01'), max: Date.parse('9998-12-31') }),
    ),
    fc.constantFrom('', '.5', '.123', '.000001', '.123456789'),
    fc.constantFrom('Z', '+00:00', '-00:00', '+05:30', '-12:00', '+14:00', '+23:59'),
  )
  .map(([ms, fraction, offset]) => `${new Date(ms).toISOString().slice(0, 19)}${fraction}${offset}`);

/** Values no schema asks for. */
export const junk: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(null, true, '', 0, -1, 1.5, 1e300, 2 ** 53, [], {}, [[]], '\0', '\ud800', '%'),
  fc.constantFrom<unknown>('2026-02-30T25:61:00Z', '9999-12-31T23:59:59-12:00', '0000-01-01T00:00:00Z'),
  fc.constant('x'.repeat(5_000)),
  fc.jsonValue({ maxDepth: 4 }),
);

const bends = fc.record({
  how: fc.constantFrom('replace', 'drop', 'add'),
  /** Which member, at each level on the way down. */
  where: fc.array(fc.nat(50), { minLength: 1, maxLength: 3 }),
  name: fc.constantFrom('unknown', '__proto__', 'constructor', '', 'id', 'state', 'ID'),
  value: junk,
});

/** The values of an arbitrary, each bent in one place: replaced, dropped, or with a member too many. */
export function crooked(fitting: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.oneof(
    { weight: 5, arbitrary: fc.tuple(fitting, bends).map(([value, bend]) => bent(value, bend.where, bend)) },
    junk,
  );
}

interface Bend {
  how: string;
  name: string;
  value: unknown;
}

function bent(value: unknown, [step = 0, ...rest]: number[], bend: Bend): unknown {
  if (Array.isArray(value) && value.length > 0) {
    const at = step % value.length;
    return value.map((item, i) => (i === at ? bent(item, rest, bend) : item));
  }
  if (value === null || typeof value !== 'object') return bend.value;
  if (bend.how === 'add') return withMember(value as Json, bend.name, bend.value);
  const names = Object.keys(value);
  const name = names[step % Math.max(names.length, 1)];
  if (name === undefined) return bend.value;
  const { [name]: member, ...others } = value as Json;
  if (bend.how === 'drop' && rest.length === 0) return others;
  return withMember(others, name, rest.length > 0 ? bent(member, rest, bend) : bend.value);
}

// Assigning to `__proto__` would set the prototype instead of a member.
function withMember(object: Json, name: string, value: unknown): Json {
  return Object.fromEntries([...Object.entries(object), [name, value]]);
}
