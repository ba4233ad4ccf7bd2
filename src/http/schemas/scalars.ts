// What single values of the contract may be: names, moments, and JSON that is kept as it was sent.
// Next room: new-job.ts, which has all of them.
import { z } from 'zod';
import { namePattern } from '../../domain/job.ts';
import { RawJson } from '../../domain/json.ts';

/** A JSON value kept as it was sent; the body parser makes it. */
export const JsonValue = z
  .custom<RawJson>((value) => value instanceof RawJson, 'must be a JSON value')
  .meta({ id: 'JsonValue', description: 'Any JSON value; it is kept and given back byte for byte.' });

/** The name of a queue or the type of a job. */
export const name = z
  .string()
  .regex(namePattern, 'must be 1 to 63 of a-z 0-9 . _ - and begin with a letter or a digit');

const earliest = Date.parse('1970-01-01T00:00:00Z');
const latest = Date.parse('9999-12-31T23:59:59.999Z');

const notATime = 'must be an RFC 3339 time with an offset, such as 2026-01-02T03:04:05Z';

/** A moment in a request: RFC 3339 with an offset, in the years 1970 to 9999. It goes on in UTC. */
export const moment = z.iso
  .datetime({
    offset: true,
    abort: true,
    error: ({ input }) => `${notATime}${/ \d\d:\d\d$/.test(String(input)) ? '; a + in a query is %2B' : ''}`,
  })
  .refine((text) => Date.parse(text) >= earliest && Date.parse(text) <= latest, {
    message: 'must lie in the years 1970 to 9999',
  })
  // Postgres knows fewer offsets than RFC 3339 allows.
  .overwrite((text) => (Number.isNaN(Date.parse(text)) ? text : new Date(text).toISOString()));
