// Checks what was parsed against the schemas, once, and says every fault with its place and its remedy.
// Invariants: a body that cannot be used is 422, an id that cannot be one is 404 before any database is asked; no fault
// repeats a value of a body.
// Next room: problem.ts, which sends what is thrown.
import type { FastifySchemaCompiler } from 'fastify';
import type { z } from 'zod';
import { shown } from '../domain/cadence-fault.ts';
import { Problem, type ProblemFault } from '../domain/problem.ts';

const mostFaults = 20;
const longestStep = 64;

/** Makes the validator of one part of a route's requests; its failures are Problems. */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  if (httpPart === 'params')
    return (data) => outcome(schema.safeParse(data), (error) => notFound(error, data as Params));
  if (httpPart === 'querystring') return (data) => queried(schema, data as Record<string, unknown>);
  if (httpPart !== 'body')
    return (data) => outcome(schema.safeParse(data, { error: remedy }), (error) => unusable(error));
  const absent = schema.safeParse({});
  return (data) => {
    // Fastify hands over null where there was no body at all: that is {} to a route that needs nothing.
    if (data !== null) return outcome(schema.safeParse(data, { error: remedy }), (error) => unusable(error));
    return absent.success ? { value: absent.data } : { error: missingBody() };
  };
};

/** A validator that lets a function check the body; what it throws is the answer. */
export function checking(check: (body: unknown) => unknown): FastifySchemaCompiler<z.ZodType> {
  return (part) => {
    if (part.httpPart !== 'body') return validatorCompiler(part);
    return (data) => {
      try {
        return { value: check(data) };
      } catch (error) {
        return { error: error as Error };
      }
    };
  };
}

/** A validator that spares the usual body its schema: zod costs more than all else that is read of a request. */
export function sparing(usual: (body: unknown) => object | null): FastifySchemaCompiler<z.ZodType> {
  return (part) => {
    const checks = validatorCompiler(part);
    if (part.httpPart !== 'body') return checks;
    return (data) => {
      const value = usual(data);
      return value === null ? checks(data) : { value };
    };
  };
}

/** What a schema makes of a value; throws `validation-failed` with pointers that begin at `at`. */
export function checked<T>(schema: z.ZodType<T>, data: unknown, at = '#'): T {
  const parsed = schema.safeParse(data, { error: remedy });
  if (parsed.success) return parsed.data;
  throw unusable(parsed.error, at);
}

/** A parameter that was sent twice is a list, which means nothing here. */
function queried(schema: z.ZodType, query: Record<string, unknown>) {
  const twice = Object.keys(query).filter((name) => Array.isArray(query[name]));
  if (twice.length === 0) {
    return outcome(schema.safeParse(query, { error: remedy }), (error) => unusable(error));
  }
  const faults = twice.map((name) => ({
    pointer: pointerTo('#', [name]),
    code: 'duplicate',
    detail: sentTwice,
  }));
  return { error: refused(faults) };
}

/** What is said of something that may stand once. */
export const sentTwice = 'was sent twice; send it once';

function outcome(parsed: z.ZodSafeParseResult<unknown>, refuse: (error: z.ZodError) => Problem) {
  return parsed.success ? { value: parsed.data } : { error: refuse(parsed.error) };
}

type Params = Readonly<Record<string, string>>;

function notFound({ issues: [issue] }: z.ZodError, params: Params): Problem {
  const part = String(issue?.path[0]);
  // A name that is written wrongly can be written rightly; an id cannot.
  if (issue !== undefined && part !== 'id') {
    const detail = `the ${part} in the path is ${shown(params[part] ?? '')}; it ${issue.message}`;
    return new Problem('not-found', { detail });
  }
  return new Problem('not-found', { detail: 'nothing has this id; take URLs from Location and Link' });
}

function missingBody(): Problem {
  return new Problem('malformed-json', { detail: 'the body is empty; send a JSON object' });
}

function unusable(error: z.ZodError, at = '#'): Problem {
  return refused(error.issues.flatMap((issue) => faultsOf(issue, at)));
}

function refused(faults: readonly ProblemFault[]): Problem {
  const first = faults[0] as ProblemFault;
  const more = faults.length > 1 ? `; ${faults.length - 1} more in errors` : '';
  return new Problem('validation-failed', {
    detail: `${first.pointer} ${first.detail}${more}`,
    errors: faults.slice(0, mostFaults),
  });
}

function faultsOf(issue: z.core.$ZodIssue, at: string): ProblemFault[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      pointer: pointerTo(at, [...issue.path, key]),
      code: 'unknown_member',
      detail: 'is not known here; remove it',
    }));
  }
  return [{ pointer: pointerTo(at, issue.path), code: issue.code, detail: issue.message }];
}

// RFC 6901 section 6: a JSON pointer as a URI fragment. A name of the caller's own making is cut.
function pointerTo(at: string, path: readonly PropertyKey[]): string {
  return `${at}${path.map((step) => `/${fragmentOf(String(step))}`).join('')}`;
}

function fragmentOf(step: string): string {
  const shown = step.length > longestStep ? `${step.slice(0, longestStep).toWellFormed()}…` : step;
  return encodeURIComponent(shown.replaceAll('~', '~0').replaceAll('/', '~1'));
}

// What zod says by itself is neither lower case nor a remedy; messages written in a schema come before these.
export function remedy(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined
        ? `is missing; send ${a(issue.expected)}`
        : `must be ${a(issue.expected)}`;
    case 'too_small':
      return `must ${bound(issue.origin, 'at least', issue.minimum)}`;
    case 'too_big':
      return `must ${bound(issue.origin, 'at most', issue.maximum)}`;
    case 'invalid_value':
      return `must be ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
    case 'invalid_key':
      return issue.issues[0]?.message ?? 'is no name that can be used here';
    case 'unrecognized_keys':
      return 'holds members that are not known here; remove them';
    default:
      return 'is not valid; see /openapi.json';
  }
}

function bound(origin: string, which: string, limit: number | bigint): string {
  if (origin === 'string') return `have ${which} ${limit} characters`;
  if (origin === 'array') return `have ${which} ${limit} items`;
  return `be ${which} ${limit}`;
}

function a(expected: string): string {
  if (expected === 'int') return 'a whole number';
  return /^[aeio]/.test(expected) ? `an ${expected}` : `a ${expected}`;
}
