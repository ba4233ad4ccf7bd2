// Schedules declared in a file: read with the line of every member, checked all before the first is written, and defined by
// the same calls anybody makes.
// Invariants: what is in force already is not written; of a file with a fault nothing is written; a schedule that the file
// does not name is left alone.
// Next room: main.ts, which applies a file to a service; composition/declaring.ts, where a service applies its own.
import { type Document, LineCounter, type Node, parseDocument } from 'yaml';
import { shown } from './domain/cadence-fault.ts';
import { namePattern } from './domain/job.ts';

/** A schedule of the file. */
export interface Declared {
  name: string;
  /** The body of its PUT. */
  body: string;
  /** Where a member is written: `file:line`. */
  place(pointer: string): string;
}

/** What became of a declared schedule, or would. */
export interface Applied {
  name: string;
  done: 'created' | 'changed' | 'unchanged';
  /** It is defined and will never fire again. */
  hasEnded: boolean;
}

/** One call of the API. */
export type Ask = (
  method: 'POST' | 'PUT',
  path: string,
  headers: Readonly<Record<string, string>>,
  body: string,
) => Promise<{ status: number; etag: string | undefined; body: string }>;

/** All faults of a file, one line each. */
export class DeclarationError extends Error {
  constructor(faults: readonly string[]) {
    super(`the schedules cannot be applied:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`);
  }
}

/** Reads `schedules: [{name, …}]`, in YAML or JSON; throws {@link DeclarationError}. */
export function readDeclared(text: string, file: string): Declared[] {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, intAsBigInt: true, merge: true });
  const at = (offset: number) => `${file}:${lines.linePos(offset).line}`;
  const broken = [...document.errors, ...document.warnings];
  if (broken.length > 0) {
    const first = ({ message }: Error) => message.split('\n', 1)[0]?.replace(/ at line \d+.*$/, '');
    throw new DeclarationError(broken.map((one) => `${at(one.pos[0])}: ${first(one)}`));
  }
  const placeOf = (path: readonly (string | number)[]): string => {
    for (let depth = path.length; depth > 0; depth -= 1) {
      const node = document.getIn(path.slice(0, depth), true) as Node | undefined;
      if (node?.range != null) return at(node.range[0]);
    }
    return `${file}:1`;
  };
  const faults: string[] = [];
  const names = new Set<string>();
  const declared = itemsOf(contentOf(document, file), file).map((item, i) => {
    const place = (pointer: string) => placeOf(['schedules', i, ...stepsOf(pointer)]);
    const { name, ...definition } = isMembers(item) ? item : {};
    if (typeof name !== 'string' || !namePattern.test(name) || name === 'preview') {
      const is = name === undefined ? 'missing' : shown(String(name));
      faults.push(
        `${place('#/name')}: name is ${is}; use 1 to 63 of a-z 0-9 . _ - that begin with a letter or a digit, but not "preview"`,
      );
    } else if (names.has(name)) faults.push(`${place('#/name')}: schedule "${name}" is declared twice`);
    names.add(String(name));
    return {
      name: String(name),
      body: jsonOf(definition, (fault) => faults.push(`${place('#')}: ${fault}`)),
      place,
    };
  });
  if (faults.length > 0) throw new DeclarationError(faults);
  return declared;
}

/** Checks all, then defines each; with `dry` it only says what would be done. Throws {@link DeclarationError}. */
export async function applyDeclared(
  declared: readonly Declared[],
  ask: Ask,
  options: { dry: boolean; onApplied: (applied: Applied) => void },
): Promise<Applied[]> {
  const faults: string[] = [];
  const ended = new Set<string>();
  for (const one of declared) {
    const path = `/v1/schedules/preview?count=1&name=${one.name}`;
    const answer = await ask('POST', path, {}, one.body);
    const slots = answer.status === 200 ? slotsOf(answer.body) : undefined;
    if (slots === undefined) faults.push(...faultsOf(one, answer.body));
    else if (slots.length === 0) ended.add(one.name);
  }
  if (faults.length > 0) throw new DeclarationError(faults);
  const all: Applied[] = [];
  for (const one of declared) {
    const done = await (options.dry ? compared(one, ask) : defined(one, ask));
    const applied = { name: one.name, done, hasEnded: ended.has(one.name) };
    options.onApplied(applied);
    all.push(applied);
  }
  return all;
}

/** What became of one schedule, in words. */
export function saidOf({ name, done, hasEnded }: Applied): string {
  return `${name} ${done}${hasEnded ? ', has no slot left' : ''}`;
}

/** What became of all of them, in one line. */
export function sumOf(all: readonly Applied[]): string {
  const count = (what: Applied['done']) => all.filter(({ done }) => done === what).length;
  const counts = (['created', 'changed', 'unchanged'] as const).map((what) => `${count(what)} ${what}`);
  return `${all.length} ${all.length === 1 ? 'schedule' : 'schedules'}: ${counts.join(', ')}`;
}

const tries = 5;

/** Replicas may apply the same file at once, so what another has just done is looked at again. */
async function defined(one: Declared, ask: Ask): Promise<Applied['done']> {
  let condition: Record<string, string> = {};
  for (let n = 0; n < tries; n += 1) {
    const { status, etag, body } = await put(one, ask, condition);
    if (status === 201) return 'created';
    if (status === 200) return 'if-match' in condition ? 'changed' : 'unchanged';
    if (status !== 412 && status !== 428) throw new DeclarationError(faultsOf(one, body));
    condition = etag === undefined ? {} : { 'if-match': etag };
  }
  throw new DeclarationError([`schedule "${one.name}" kept changing; apply the file again`]);
}

/** A condition that no schedule meets: nothing can be written, and what is in force already is answered as such. */
async function compared(one: Declared, ask: Ask): Promise<Applied['done']> {
  const { status, etag, body } = await put(one, ask, { 'if-match': '"dry-run"' });
  if (status === 200) return 'unchanged';
  if (status !== 412) throw new DeclarationError(faultsOf(one, body));
  return etag === undefined ? 'created' : 'changed';
}

function put({ name, body }: Declared, ask: Ask, condition: Readonly<Record<string, string>>) {
  return ask('PUT', `/v1/schedules/${name}`, condition, body);
}

/** What a problem says, with the lines it is about. */
function faultsOf({ name, place }: Declared, body: string): string[] {
  const problem = problemOf(body);
  const errors = problem.errors ?? [];
  if (errors.length === 0) return [`${place('#')}: schedule "${name}": ${problem.detail}`];
  return errors.map(({ pointer, detail }) => `${place(pointer)}: schedule "${name}": ${pointer} ${detail}`);
}

/** The slots of a preview; undefined: it is none. */
function slotsOf(body: string): readonly unknown[] | undefined {
  try {
    const { slots } = JSON.parse(body);
    return Array.isArray(slots) ? slots : undefined;
  } catch {
    return undefined;
  }
}

function problemOf(body: string): { detail: string; errors?: { pointer: string; detail: string }[] } {
  try {
    const { detail, errors } = JSON.parse(body);
    if (typeof detail === 'string') return { detail, errors };
  } catch {
    // No problem of Errand's: something else answered.
  }
  return { detail: `no answer of errand's: ${body.slice(0, 200)}` };
}

function contentOf(document: Document, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw new DeclarationError([`${file}: ${(error as Error).message}`]);
  }
}

function itemsOf(root: unknown, file: string): readonly unknown[] {
  if (isMembers(root) && Array.isArray(root.schedules)) {
    const unknown = Object.keys(root).filter((member) => member !== 'schedules');
    if (unknown.length === 0) return root.schedules;
    throw new DeclarationError([`${file}: member "${unknown[0]}" is not known here; remove it`]);
  }
  throw new DeclarationError([`${file}:1: the file holds no list; begin with "schedules:"`]);
}

function isMembers(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** The steps of a JSON pointer in a URI fragment (RFC 6901 section 6). */
function stepsOf(pointer: string): (string | number)[] {
  const steps = pointer
    .split('/')
    .slice(1)
    .map((step) => decodeURIComponent(step));
  return steps
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((step) => (/^\d+$/.test(step) ? Number(step) : step));
}

// TypeScript does not know it yet.
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

/** YAML has numbers that JSON has not; integers keep every digit. */
function jsonOf(value: unknown, onFault: (fault: string) => void): string {
  return JSON.stringify(value, (member, part) => {
    if (typeof part === 'bigint') return rawJSON(String(part));
    if (typeof part === 'number' && !Number.isFinite(part))
      onFault(`${member} is ${part}, which JSON does not have`);
    return part;
  });
}
