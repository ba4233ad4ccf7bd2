// Proves that the house is walked one way: who may import whom, where SQL and the environment may appear, and
// which names are not names. `violations` judges a list of files, so the same test shows that it notices.
// To give a new floor or file its place, add a line to `floors`.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the planted sources are texts that hold templates

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, sep } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

interface SourceFile {
  readonly path: string;
  readonly source: string;
}

interface Floor {
  /** Floors and root files it may import. */
  readonly uses: readonly string[];
  /** Floors and root files of which it may import types only. */
  readonly names?: readonly string[];
  /** Packages it may import; `node:*` and `fastify-*` stand for all of their kind. */
  readonly packages: readonly string[];
}

// A floor is a folder below src/, or a file directly in it; in composition/ and processes/ each file is one.
const floors: Readonly<Record<string, Floor>> = {
  domain: { uses: ['domain'], packages: ['zod', 'croner', 'ipaddr.js', 'node:crypto', 'node:buffer'] },
  store: { uses: ['store', 'domain'], packages: ['pg', 'node-pg-migrate', 'node:*'] },
  signal: { uses: ['signal', 'domain'], names: ['events.ts'], packages: ['ioredis', 'node:*'] },
  actions: {
    uses: ['actions', 'store', 'signal', 'domain'],
    names: ['events.ts', 'config.ts'],
    packages: ['node:*'],
  },
  http: {
    uses: ['http', 'actions', 'domain'],
    names: ['events.ts', 'config.ts', 'telemetry'],
    packages: ['fastify', '@fastify/*', 'fastify-*', 'zod', 'node:*'],
  },
  roles: {
    uses: ['roles', 'actions', 'domain'],
    names: ['events.ts', 'config.ts', 'store'],
    packages: ['undici', 'piscina', 'node:*'],
  },
  telemetry: {
    uses: ['telemetry', 'domain'],
    names: ['events.ts', 'config.ts'],
    packages: ['prom-client', 'node:*'],
  },
  embedded: { uses: ['embedded'], packages: ['pg', 'node:*'] },
  'events.ts': { uses: ['domain'], packages: [] },
  'errand.ts': { uses: ['roles'], packages: [] },
  'config.ts': { uses: ['domain'], packages: ['zod', 'node:*'] },
  'declared.ts': { uses: ['domain'], packages: ['yaml'] },
  'main.ts': {
    uses: [
      'compose.ts',
      'processes/primary.ts',
      'processes/place.ts',
      'config.ts',
      'declared.ts',
      'events.ts',
      'release.ts',
    ],
    packages: ['commander', 'node:*'],
  },
  'processes/primary.ts': {
    uses: ['compose.ts', 'processes/forked.ts', 'telemetry', 'events.ts'],
    names: ['config.ts', 'processes/place.ts'],
    packages: [],
  },
  'processes/forked.ts': { uses: [], names: ['events.ts', 'processes/place.ts'], packages: ['node:*'] },
  'processes/place.ts': { uses: [], packages: [] },
  'release.ts': { uses: [], packages: [] },
  'compose.ts': { uses: ['*'], packages: ['*'] },
  'composition/build.ts': { uses: ['*'], packages: ['*'] },
  'composition/counting.ts': {
    uses: ['actions', 'store', 'domain'],
    names: ['events.ts', 'roles'],
    packages: [],
  },
  'composition/movers.ts': {
    uses: ['actions', 'store', 'domain'],
    names: ['events.ts', 'composition/stores.ts'],
    packages: [],
  },
  'composition/verbs.ts': {
    uses: ['actions', 'store', 'domain'],
    names: [
      ...[
        'config.ts',
        'events.ts',
        'composition/stores.ts',
        'composition/telling.ts',
        'composition/movers.ts',
      ],
      ...['composition/desk.ts', 'composition/counting.ts', 'composition/bulk.ts'],
    ],
    packages: [],
  },
  'composition/vitals.ts': {
    uses: ['telemetry', 'store'],
    names: [
      'actions',
      'roles',
      'composition/counting.ts',
      'events.ts',
      'composition/office.ts',
      'processes/place.ts',
      'composition/stores.ts',
      'composition/telling.ts',
    ],
    packages: [],
  },
  'composition/bulk.ts': { uses: ['actions'], names: ['store'], packages: [] },
  'composition/declaring.ts': { uses: ['declared.ts', 'http', 'roles'], names: ['events.ts'], packages: [] },
  'composition/stores.ts': { uses: ['store'], names: ['config.ts', 'events.ts'], packages: ['node:*'] },
  'composition/telling.ts': {
    uses: ['actions', 'signal', 'store'],
    names: ['config.ts', 'events.ts', 'composition/stores.ts'],
    packages: [],
  },
  'composition/desk.ts': { uses: ['roles', 'actions'], names: ['store'], packages: [] },
  'drain.ts': { uses: ['roles'], names: ['events.ts'], packages: [] },
  'composition/office.ts': {
    uses: ['roles', 'actions'],
    names: ['config.ts', 'events.ts', 'store'],
    packages: [],
  },
  'composition/runners.ts': { uses: ['roles', 'domain'], names: ['config.ts'], packages: [] },
};

// One door between two floors that are otherwise strangers: the role that listens starts the app.
const doors: readonly (readonly [string, string])[] = [['src/roles/api.ts', 'src/http/app.ts']];

// command.ts configures nothing by it: it hands PATH and the like on to the programs it starts.
const environmentReaders = ['src/config.ts', 'src/embedded/command.ts'];

const forbiddenNames = /^(utils?|helpers?|managers?|common|types?)$/;

const sqlPatterns = [
  /\binsert\s+into\b/i,
  /\bdelete\s+from\b/i,
  /\bupdate\s+[\w."$]+\s+(as\s+\w+\s+)?set\b/i,
  /\bselect\b[\s\S]+\bfrom\b/i,
  /^\s*select\s/i,
];

function violations(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => {
    const { code, literals } = dissect(file.source);
    return [
      ...nameFaults(file.path),
      ...importFaults(file.path, file.source, code),
      ...environmentFaults(file.path, file.source, code),
      ...sqlFaults(file.path, literals),
    ];
  });
}

function nameFaults(path: string): string[] {
  const word = path.split(/[/.-]/).find((part) => forbiddenNames.test(part));
  return word === undefined ? [] : [`${path}: "${word}" says nothing; name what the file is for`];
}

function importFaults(path: string, source: string, code: string): string[] {
  const floor = floors[floorOf(path)];
  if (floor === undefined) return [`${path}: belongs to no floor`];
  return importsOf(source, code)
    .filter((used) => !isAllowed(path, floor, used))
    .map((used) => `${path}: must not import ${used.typeOnly ? 'types of ' : ''}${used.from}`);
}

function isAllowed(path: string, floor: Floor, used: Import): boolean {
  if (!used.from.startsWith('.')) return floor.packages.some((pattern) => covers(pattern, used.from));
  const target = normalize(join(dirname(path), used.from))
    .split(sep)
    .join('/');
  if (doors.some(([from, to]) => from === path && to === target)) return true;
  const to = floorOf(target);
  if (floor.uses.includes('*') || floor.uses.includes(to)) return true;
  return used.typeOnly && (floor.names ?? []).includes(to);
}

function covers(pattern: string, name: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

function floorOf(path: string): string {
  const [top, floor = '', ...rooms] = path.split('/');
  if (top !== 'src') return path;
  return ['composition', 'processes'].includes(floor) ? [floor, ...rooms].join('/') : floor;
}

function environmentFaults(path: string, source: string, code: string): string[] {
  if (environmentReaders.includes(path)) return [];
  const direct = /\bprocess\s*(\?\.|\.)\s*env\b|\bprocess\s*\[/.test(code);
  const imported = importsOf(source, code).some(
    (used) => used.from === 'node:process' && /\benv\b/.test(used.clause),
  );
  return direct || imported
    ? [`${path}: reads the environment; let config.ts read it and pass the value`]
    : [];
}

function sqlFaults(path: string, literals: readonly string[]): string[] {
  if (['store', 'embedded'].includes(floorOf(path))) return [];
  const found = literals.some((literal) => sqlPatterns.some((pattern) => pattern.test(literal)));
  return found ? [`${path}: holds SQL; statements live in store/`] : [];
}

interface Import {
  readonly from: string;
  readonly clause: string;
  readonly typeOnly: boolean;
}

// Specifiers are string literals, so the statements are found in the code and read from the source.
function importsOf(source: string, code: string): Import[] {
  const found: Import[] = [];
  const statement = /\b(?:import|export)\b([^;'"`()]*?)\bfrom\s*['"]|\bimport\s*\(?\s*['"]/g;
  for (const match of code.matchAll(statement)) {
    const start = match.index + match[0].length;
    const from = source.slice(start, source.indexOf(source[start - 1] ?? "'", start));
    const clause = match[1] ?? '';
    found.push({ from, clause, typeOnly: isTypeOnly(clause) });
  }
  return found;
}

function isTypeOnly(clause: string): boolean {
  if (/^\s*type\b/.test(clause)) return true;
  const named = /^\s*\{([^}]*)\}\s*$/.exec(clause)?.[1];
  if (named === undefined) return false;
  const members = named.split(',').map((member) => member.trim());
  return members.filter((member) => member !== '').every((member) => member.startsWith('type '));
}

interface Dissected {
  /** The source with comments and the insides of literals blanked, every character in its place. */
  readonly code: string;
  /** The texts of strings and templates; an expression inside a template counts as `$`. */
  readonly literals: readonly string[];
}

function dissect(source: string): Dissected {
  const blanked = source.split('');
  const literals: string[] = [];
  const blank = (from: number, to: number) => {
    for (let at = from; at < to; at += 1) if (blanked[at] !== '\n') blanked[at] = ' ';
  };
  const readQuoted = (start: number): number => {
    let at = start + 1;
    while (at < source.length && source[at] !== source[start]) at += source[at] === '\\' ? 2 : 1;
    literals.push(source.slice(start + 1, at));
    blank(start + 1, at);
    return at + 1;
  };
  const readTemplate = (start: number): number => {
    let at = start + 1;
    let text = '';
    let from = at;
    while (at < source.length && source[at] !== '`') {
      if (source.startsWith('${', at)) {
        text += `${source.slice(from, at)}$`;
        blank(from, at);
        at = readCode(at + 2, '}');
        from = at;
      } else at += source[at] === '\\' ? 2 : 1;
    }
    literals.push(text + source.slice(from, at));
    blank(from, at);
    return at + 1;
  };
  const readComment = (start: number): number => {
    const close = source[start + 1] === '/' ? '\n' : '*/';
    const found = source.indexOf(close, start + 2);
    const end = found === -1 ? source.length : found + close.length;
    blank(start, end);
    return end;
  };
  const readPattern = (start: number): number => {
    let at = start + 1;
    for (let inClass = false; at < source.length && (inClass || source[at] !== '/'); at += 1) {
      if (source[at] === '\\') at += 1;
      else if (source[at] === '[') inClass = true;
      else if (source[at] === ']') inClass = false;
    }
    blank(start + 1, at);
    return at + 1;
  };
  const readCode = (start: number, close: '}' | null): number => {
    let at = start;
    for (let depth = 0; at < source.length; ) {
      const char = source[at];
      if (char === '}' && close !== null && depth === 0) return at + 1;
      if (char === "'" || char === '"') at = readQuoted(at);
      else if (char === '`') at = readTemplate(at);
      else if (char === '/' && (source[at + 1] === '/' || source[at + 1] === '*')) at = readComment(at);
      else if (char === '/' && beginsPattern(source, at)) at = readPattern(at);
      else {
        if (char === '{') depth += 1;
        if (char === '}') depth -= 1;
        at += 1;
      }
    }
    return at;
  };
  readCode(0, null);
  return { code: blanked.join(''), literals };
}

// A slash after a value divides; after anything else it opens a pattern.
function beginsPattern(source: string, at: number): boolean {
  const before = source.slice(Math.max(0, at - 20), at).trimEnd();
  return !/[\w$)\]}"'`]$/.test(before) || /\b(return|typeof|case|of|in)$/.test(before);
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

function houseFiles(): SourceFile[] {
  return readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `src/${name.split(sep).join('/')}`)
    .map((path) => ({ path, source: readFileSync(join(root, path), 'utf8') }));
}

test('the house is walked one way', () => {
  const files = houseFiles();
  assert.ok(files.length > 5);
  assert.deepEqual(violations(files), []);
});

const planted: readonly (readonly [string, string, string])[] = [
  ['domain does no I/O', 'src/domain/job.ts', "import { readFileSync } from 'node:fs';"],
  ['domain knows no floor above it', 'src/domain/job.ts', "import type { Row } from '../store/jobs.ts';"],
  ['domain knows no events', 'src/domain/job.ts', "import { EventBus } from '../events.ts';"],
  ['store does not call actions', 'src/store/jobs.ts', "import { submit } from '../actions/submit.ts';"],
  ['store knows no Redis', 'src/store/jobs.ts', "import { Redis } from 'ioredis';"],
  ['signal knows no Postgres', 'src/signal/wakeup.ts', "import pg from 'pg';"],
  ['signal does not read the store', 'src/signal/wakeup.ts', "import { findJobs } from '../store/jobs.ts';"],
  ['actions never see a request', 'src/actions/submit.ts', "import type { FastifyRequest } from 'fastify';"],
  ['actions do not call routes', 'src/actions/submit.ts', "export { jobs } from '../http/jobs.ts';"],
  ['http does not touch the store', 'src/http/jobs.ts', "import type { Row } from '../store/jobs.ts';"],
  [
    'http takes only types of telemetry',
    'src/http/metrics.ts',
    "import { metrics } from '../telemetry/metrics.ts';",
  ],
  ['a role reaches http only from api.ts', 'src/roles/loop.ts', "import { buildApp } from '../http/app.ts';"],
  ['api.ts reaches only the app', 'src/roles/api.ts', "import { jobs } from '../http/jobs.ts';"],
  [
    'a role takes only types of the store',
    'src/roles/loop.ts',
    "import { type Db, open } from '../store/db.ts';",
  ],
  ['telemetry does not act', 'src/telemetry/log.ts', "const verb = await import('../actions/submit.ts');"],
  ['embedded stands alone', 'src/embedded/server.ts', "import { Problem } from '../domain/problem.ts';"],
  [
    'only compose.ts and build.ts import everything',
    'src/main.ts',
    "import { buildApp } from './http/app.ts';",
  ],
  ['main.ts opens no pool', 'src/main.ts', "import 'pg';"],
  ['a new file needs a floor', 'src/things/job.ts', ''],
  ['only config.ts reads the environment', 'src/http/app.ts', 'const port = process.env.PORT;'],
  ['nor by another spelling', 'src/main.ts', "import { env } from 'node:process';"],
  ['a statement in actions', 'src/actions/submit.ts', "db.query('insert into errand.job values ($1)');"],
  ['a select in http', 'src/http/jobs.ts', 'db.query(`select ${columns} from errand.job`);'],
  ['a statement in a role', 'src/roles/loop.ts', "db.query('delete from errand.lease');"],
  ['a statement in domain', 'src/domain/job.ts', 'const text = `update errand.lane set n = ${n}`;'],
  ['a file of leftovers', 'src/domain/utils.ts', ''],
  ['a manager', 'src/roles/queue-manager.ts', ''],
  ['a folder of leftovers', 'src/store/common/jobs.ts', ''],
  ['a file of types', 'src/http/types.ts', ''],
  ['helpers', 'src/http/helpers.ts', ''],
];

for (const [what, path, source] of planted) {
  test(`notices a planted violation: ${what}`, () => {
    assert.equal(violations([{ path, source }]).length, 1);
  });
}

const lawful: readonly (readonly [string, string, string])[] = [
  ['comments', 'src/http/jobs.ts', "// import x from 'pg'; process.env\n/* select a from b */"],
  ['texts', 'src/http/jobs.ts', 'const text = "import x from \'pg\'; process.env";'],
  ['patterns', 'src/http/jobs.ts', "const quote = /['\"`/]/; const half = size / 2 / 1;\nimport 'fastify';"],
  [
    'types across floors',
    'src/roles/loop.ts',
    "import type { Db } from '../store/db.ts';\nimport { type Row } from '../store/jobs.ts';",
  ],
  ['the one door', 'src/roles/api.ts', "import { buildApp } from '../http/app.ts';"],
  ['statements in the store', 'src/store/jobs.ts', "sql('select 1 from errand.job');"],
  ['code in a template', 'src/http/jobs.ts', 'const a = `${x ? `${"}"}` : \'`\'}`; const b = 1;'],
];

for (const [what, path, source] of lawful) {
  test(`lets pass: ${what}`, () => {
    assert.deepEqual(violations([{ path, source }]), []);
  });
}

test('sees the environment and imports behind templates and patterns', () => {
  const source = 'const a = `${`${b}`} ${"`"}`; const c = /[`\'"]/;\nconst d = process.env.HOME;';
  assert.equal(violations([{ path: 'src/http/jobs.ts', source }]).length, 1);
});
