// Writes the pages that are generated from the program: `node docs/generate.ts` writes them, with `--check` it
// only says which differ and ends with 1. A page that is not listed here is written by hand; of the chart's README the table is.
// Next room: test/unit/generated-pages.test.ts, which fails on drift.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { configurationPage } from '../src/config.ts';
import { problemIndex, problemPage, problemSlugs } from '../src/domain/problems.ts';
import { EventBus } from '../src/events.ts';
import { metricsPage } from '../src/telemetry/metrics-page.ts';
import { chartReadme } from './chart-values.ts';

/** A generated file: its path from the root of the repository, and its text. */
export interface GeneratedPage {
  readonly path: string;
  readonly content: string;
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

// Folders in which every Markdown file is generated: a page of a problem that is gone must go too.
const ownedFolders = ['docs/problems'];

/** Lists every generated page with the text it ought to have. */
export function generatedPages(): GeneratedPage[] {
  return [
    { path: 'docs/configuration.md', content: configurationPage() },
    { path: 'helm/errand/README.md', content: chartReadme() },
    { path: 'docs/metrics.md', content: metricsPage(new EventBus()) },
    { path: 'docs/problems/README.md', content: problemIndex() },
    ...problemSlugs().map((slug) => ({ path: `docs/problems/${slug}.md`, content: problemPage(slug) })),
  ];
}

/** Lists the paths that differ from what ought to be there: missing, changed or left over. */
export function driftedPages(pages: readonly GeneratedPage[] = generatedPages()): string[] {
  const changed = pages.filter((page) => readOrNull(page.path) !== page.content).map((page) => page.path);
  return [...changed, ...leftOver(pages)];
}

/** Writes every generated page and removes the left-over ones. */
export function writePages(pages: readonly GeneratedPage[] = generatedPages()): void {
  for (const page of pages) {
    mkdirSync(dirname(join(root, page.path)), { recursive: true });
    writeFileSync(join(root, page.path), page.content);
  }
  for (const path of leftOver(pages)) rmSync(join(root, path));
}

function leftOver(pages: readonly GeneratedPage[]): string[] {
  const known = new Set(pages.map((page) => page.path));
  return ownedFolders
    .flatMap((folder) => markdownIn(folder).map((name) => `${folder}/${name}`))
    .filter((path) => !known.has(path));
}

function markdownIn(folder: string): string[] {
  try {
    return readdirSync(join(root, folder)).filter((name) => name.endsWith('.md'));
  } catch {
    return [];
  }
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(join(root, path), 'utf8');
  } catch {
    return null;
  }
}

function main(): void {
  if (!process.argv.includes('--check')) {
    writePages();
    return;
  }
  const drifted = driftedPages();
  for (const path of drifted) console.error(`${path} differs; run node docs/generate.ts`);
  if (drifted.length > 0) process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
