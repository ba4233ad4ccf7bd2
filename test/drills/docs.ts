// The page at /docs in a real browser: under its strict policy nothing it needs may be refused, and what it shows must be
// every operation of the document.
// Next room: src/http/browse.ts.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { openapiDocument } from '../../src/http/openapi.ts';
import { type Document, operationsOf } from '../support/contract.ts';
import { environmentOf, fromDebian, type Program, versionOf } from '../support/debian.ts';
import { startErrand } from '../support/errand.ts';
import type { Drill } from './drill.ts';

const chromium = { name: 'chromium', path: 'usr/lib/chromium/chromium', version: '--version' };
const page_ms = 60_000;

export const drill: Drill = {
  name: 'docs',
  proves: 'the page at /docs shows every operation in a browser, which refuses nothing of it',
  profiles: ['short', 'long'],
  limit_minutes: 5,
  async run({ folder, say }) {
    let browser: Program;
    try {
      browser = await fromDebian(chromium);
    } catch (error) {
      return { result: 'NOT RUN', reason: `there is no browser here: ${(error as Error).message}` };
    }
    const versions = { browser: await versionOf(browser, chromium.version) };
    const errand = await startErrand();
    const operations = operationsOf((await openapiDocument()) as Document);
    const faults: string[] = [];
    for (const path of ['/docs', '/docs/']) {
      say(`opening ${path}`);
      const { dom, complaints } = await open(browser, `${errand.url}${path}`, folder);
      const shown = new Set([...dom.matchAll(/id="operations-[\w-]+-(\w+)"/g)].map(([, id]) => id));
      const missing = operations.filter(({ object }) => !shown.has(object.operationId));
      if (missing.length > 0)
        faults.push(`${path} does not show ${missing.map(({ object }) => object.operationId)}`);
      faults.push(...complaints);
    }
    await errand.stop();
    if (faults.length > 0) return { result: 'FAIL', reason: faults.join('\n'), versions };
    return { result: 'PASS', figures: { operations: operations.length }, versions };
  },
};

/** Opens a page and lets its scripts run: what there is then, and what the browser complained of. */
async function open(
  browser: Program,
  url: string,
  home: string,
): Promise<{ dom: string; complaints: string[] }> {
  const words = [
    ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-proxy-server'],
    ...['--enable-logging=stderr', '--virtual-time-budget=15000', `--user-data-dir=${home}/profile`],
    ...['--dump-dom', url],
  ];
  const { stdout, stderr } = await promisify(execFile)(browser.path, words, {
    env: { ...environmentOf(browser), HOME: home },
    timeout: page_ms,
    maxBuffer: 64 * 1024 * 1024,
  });
  return {
    dom: stdout,
    complaints: stderr.split('\n').filter((line) => /CONSOLE.*(error|refused|violates)/i.test(line)),
  };
}
