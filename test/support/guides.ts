// Why this room exists: the programs that guides show are run, and what they say these print has to come.
// Next room: test/system/examples.test.ts; test/drills/languages.ts, for Go.
import { readFileSync } from 'node:fs';

const GUIDES = new URL('../../docs/guides/', import.meta.url);

/** The first program of a page in a language, and the block after it, which says what it prints. */
export function programIn(page: string, language: string): { source: string; prints: string } {
  const text = readFileSync(new URL(page, GUIDES), 'utf8');
  const blocks = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`\\n\`\`\`text\\n(.*?)^\`\`\``, 'ms').exec(text);
  if (blocks === null) throw new Error(`${page} shows no program in ${language} with what it prints`);
  const [, source = '', prints = ''] = blocks;
  return { source, prints };
}
