// Proves that what a reader is sent to exists: links between documents, the next room of every source file, and that
// nothing cites a page which is not in the repository. Each finder is shown a planted fault, so it is known to notice.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, normalize, sep } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { causes } from '../../src/domain/why.ts';

interface Text {
  /** Relative to the repository, with slashes. */
  readonly path: string;
  readonly text: string;
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

const skipped = new Set(['node_modules', 'dist', '.git', '.errand', '.cache']);

function filesBelow(place: string): string[] {
  const full = join(root, place);
  if (!existsSync(full)) return [];
  if (statSync(full).isFile()) return [place];
  return readdirSync(full, { withFileTypes: true })
    .filter(({ name }) => !skipped.has(name))
    .flatMap((entry) =>
      entry.isDirectory() ? filesBelow(`${place}/${entry.name}`) : [`${place}/${entry.name}`],
    );
}

function read(paths: readonly string[], pattern: RegExp): Text[] {
  return paths
    .filter((path) => pattern.test(path))
    .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
}

// A page of another place is named like ours in upper case, ARCHITECTURE.md, so case counts.
const foreign =
  /README,? decisions?\b|http[-]contract|\breliability(\.md)? \d|\b(performance|architecture|ecosystem|mission|reliability|storage[-]features)\.md|\bstorage[-]features\b|\bdecisions? \d+(, \d+)*( and \d+)?\)/;

function foreignCitations(texts: readonly Text[]): string[] {
  return texts.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, at) => {
      const found = foreign.exec(line);
      return found === null ? [] : [`${path}:${at + 1}: cites "${found[0]}", which is not in the repository`];
    }),
  );
}

interface Link {
  readonly path: string;
  readonly fragment: string;
}

/** Links that lead to a file of the repository; code is no place for links. */
function linksOf(text: string): Link[] {
  const prose = text
    .replaceAll(/^```[\s\S]*?^```/gm, '')
    .replaceAll(/`[^`\n]*`(?!\])/g, '')
    .replaceAll(/`/g, '');
  return [...prose.matchAll(/\]\(([^()\s]+)\)/g)]
    .map((match) => match[1] as string)
    .filter((target) => !/^([a-z][a-z0-9+.-]*:|\/)/i.test(target))
    .map((target) => {
      const [path = '', fragment = ''] = target.split('#', 2);
      return { path: decodeURIComponent(path), fragment };
    });
}

/** The names GitHub gives to headings. */
function anchorsOf(text: string): string[] {
  const headings = text.replaceAll(/^```[\s\S]*?^```/gm, '').matchAll(/^#{1,6} +(.+)$/gm);
  return [...headings].map(([, heading]) =>
    (heading as string)
      .trim()
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

function deadLinks({ path, text }: Text): string[] {
  return linksOf(text).flatMap((link) => {
    const target =
      link.path === ''
        ? path
        : normalize(join(dirname(path), link.path))
            .split(sep)
            .join('/');
    const full = join(root, target);
    if (target.startsWith('..') || !existsSync(full))
      return [`${path}: links to ${link.path}, which is not there`];
    if (link.fragment === '' || !target.endsWith('.md')) return [];
    const there = link.path === '' ? text : readFileSync(full, 'utf8');
    return anchorsOf(there).includes(link.fragment)
      ? []
      : [`${path}: links to ${target}#${link.fragment}, and there is no such heading`];
  });
}

// The header is the run of comment lines a file begins with; the clause ends with it.
function nextRooms(text: string): string[] {
  const lines = text.split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  const header = lines
    .slice(0, end === -1 ? lines.length : end)
    .map((line) => line.replace(/^\/\/ ?/, ''))
    .join(' ');
  const clause = header.split('Next room: ')[1];
  if (clause === undefined) return [];
  return [
    ...clause.matchAll(
      /(?<![\w./-])(?:[\w.-]+\/)*[\w-]+(?:\.[\w-]+)*\.(?:ts|js|sql|md)\b|(?<![\w./-])[\w-]+\/(?![\w.])/g,
    ),
  ].map(([name]) => name);
}

function lostRooms({ path, text }: Text): string[] {
  return nextRooms(text)
    .filter((room) => ![dirname(path), 'src', '.'].some((from) => existsSync(join(root, from, room))))
    .map((room) => `${path}: the next room ${room} is not there`);
}

const pages = read(
  [
    'README.md',
    'ARCHITECTURE.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
    ...filesBelow('docs'),
    ...filesBelow('examples'),
    ...filesBelow('helm'),
  ],
  /\.md$/,
);
const sources = read(filesBelow('src'), /\.ts$/);

test('every relative link of a document leads to a file, and to a heading where it names one', () => {
  assert.ok(pages.flatMap(({ text }) => linksOf(text)).length > 50);
  assert.deepEqual(pages.flatMap(deadLinks), []);
});

test('every next room of a source file exists', () => {
  assert.ok(sources.flatMap(({ text }) => nextRooms(text)).length > 50);
  assert.deepEqual(sources.flatMap(lostRooms), []);
});

const contract = readFileSync(join(root, 'docs/contract.md'), 'utf8');
const absent = (names: Iterable<string>) => [...names].filter((name) => !contract.includes(`\`${name}\``));

test('every action of the audit and every cause of a wait stands in the contract', () => {
  const actions = new Set(
    sources.flatMap(({ text }) =>
      [...text.matchAll(/\baction: '(\w+\.\w+)'/g)].map(([, name]) => name ?? ''),
    ),
  );
  assert.ok(actions.size > 15, `${actions.size} were found`);
  assert.deepEqual(absent(actions), []);
  assert.deepEqual(absent(causes), []);
  assert.deepEqual(absent(['no.such']), ['no.such']);
});

test('nothing cites a page that is not in the repository', () => {
  const places = readdirSync(root).filter((name) => !skipped.has(name) && name !== 'package-lock.json');
  const texts = read(places.flatMap(filesBelow), /\.(ts|js|mjs|md|sql|py|sh|json|ya?ml)$|(^|\/)Dockerfile$/);
  assert.ok(texts.length > sources.length + pages.length);
  assert.deepEqual(foreignCitations(texts), []);
});

// The tilde is taken out: this file must not hold the citations itself.
for (const line of [
  'the default (README deci~sion ~13).',
  'by the table of http-~contract 4.3.',
  'bad bodies of reliability ~43 to 53',
  'as storage-~features says',
  'see performance~.md 6 and architecture~.md',
  '(http states; deci~sions 4, 11 and 12)',
]) {
  test(`notices a planted citation: ${line}`, () => {
    assert.equal(
      foreignCitations([{ path: 'src/domain/job.ts', text: `a\n// ${line.replaceAll('~', '')}` }]).length,
      1,
    );
  });
}

test('a citation of our own pages passes', () => {
  const text =
    'see ARCHITECTURE.md, docs/storage.md, Traps, RFC 9110 section 10.1.1 and a reliability of 99 %';
  assert.deepEqual(foreignCitations([{ path: 'src/domain/job.ts', text }]), []);
});

test('notices a planted dead link and a heading that is not there', () => {
  const text =
    '[a](nowhere.md) [b](storage.md#nowhere) [c](storage.md#traps) [d](https://x.test/y.md) `[e](f.md)`';
  assert.equal(deadLinks({ path: 'docs/page.md', text }).length, 2);
});

test('notices a planted next room that is not there', () => {
  const text =
    '// Why.\n// Next room: actions/gone.ts, which acts;\n// job.ts, migrations/ and the routes.\nimport a;';
  assert.deepEqual(lostRooms({ path: 'src/domain/problem.ts', text }), [
    'src/domain/problem.ts: the next room actions/gone.ts is not there',
  ]);
});
