// The table of values in the chart's README, made from values.yaml: each value with the comment above it.
// Invariant: a value without a comment is an error, so none is without a meaning.
// Next room: generate.ts, which writes the page; helm/errand/values.yaml.
import { readFileSync } from 'node:fs';
import { isCollection, isMap, type Node, parseDocument, type Scalar, type YAMLMap } from 'yaml';

const chart = new URL('../helm/errand/', import.meta.url);
const begins = '<!-- values: made from values.yaml by docs/generate.ts -->';

/** The README of the chart with the table as it ought to be. */
export function chartReadme(): string {
  const readme = readFileSync(new URL('README.md', chart), 'utf8');
  const at = readme.indexOf(begins);
  if (at === -1) throw new Error(`helm/errand/README.md lacks the line ${begins}`);
  return `${readme.slice(0, at)}${begins}\n\n${valuesTable(readFileSync(new URL('values.yaml', chart), 'utf8'))}`;
}

/** The table of the values of a values.yaml. */
export function valuesTable(text: string): string {
  const rows = rowsOf(parseDocument(text).contents as YAMLMap<Scalar<string>, Node>, text, '');
  return ['| value | default | meaning |', '| --- | --- | --- |', ...rows, ''].join('\n');
}

function rowsOf(map: YAMLMap<Scalar<string>, Node>, text: string, before: string): string[] {
  return map.items.flatMap(({ key, value }, i) => {
    const name = `${before}${key.value}`;
    // The comment above the first member of a map belongs to the map.
    const comment = (key.commentBefore ?? (i === 0 ? map.commentBefore : null))
      ?.trim()
      .replaceAll(/\s*\n\s*/g, ' ');
    if (isMap<Scalar<string>, Node>(value) && value.flow !== true) {
      const inner = rowsOf(value, text, `${name}.`);
      return comment === undefined ? inner : [`| \`${name}\` | | ${comment} |`, ...inner];
    }
    if (comment === undefined) throw new Error(`${name} of values.yaml has no comment`);
    return [`| \`${name}\` | \`${shown(value, text)}\` | ${comment} |`];
  });
}

/** A value as it is written, or on one line where it is not. */
function shown(value: Node | null, text: string): string {
  if (isCollection(value) && value.flow !== true) return JSON.stringify(value);
  const [from, to] = value?.range ?? [0, 0];
  return text.slice(from, to);
}
