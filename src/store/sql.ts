// The form of every statement in the program: text, the row it returns, and, for hot ones, a name under which Postgres
// keeps it prepared. Statements are values, so a test can prepare each exported one on the migrated schema.
// Next room: db.ts, which runs them.

/** A statement and, as a phantom, the row it returns. */
export interface Statement<Row> {
  readonly text: string;
  readonly name?: string;
  readonly row?: Row;
}

/** A statement that is parsed at every call: right for anything that is not hot. */
export function sql<Row>(text: TemplateStringsArray): Statement<Row> {
  return { text: text.raw.join('') };
}

/** A hot statement: prepared once per connection under `name`, so it must never be built from parts at run time. */
export function hot<Row>(name: string): (text: TemplateStringsArray) => Statement<Row> {
  return (text) => ({ name, text: text.raw.join('') });
}

/** An array of numbers or ids as Postgres writes it: several times cheaper than the driver's escaping of each element. */
export function numbers(values: readonly (number | string)[]): string {
  return `{${values.join(',')}}`;
}
