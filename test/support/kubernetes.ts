// Why this room exists: an object that Kubernetes would refuse, or whose misspelt key it would drop without a word, must fail
// here, where no Kubernetes is.
// Invariant: every object is held against the schema of its kind, and every key in it against the declared ones; a kind
// that nobody knows is a fault.
// Next room: the package kubernetes-models, whose validators miss unknown keys and whose declarations list the known ones.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Manifest } from './helm.ts';

/** What is wrong with an object, each with its place. */
export async function objectFaults(object: Manifest): Promise<string[]> {
  const custom = customKinds[`${object.apiVersion}/${object.kind}`];
  const faults = custom === undefined ? await standardFaults(object) : keyFaults(object, custom, object.kind);
  return [...faults, ...nameFaults(object)];
}

async function standardFaults(object: Manifest): Promise<string[]> {
  const module = `kubernetes-models/${object.apiVersion}`;
  const kinds = (await import(module).catch(() => ({}))) as Record<
    string,
    new (
      object: Manifest,
    ) => { validate(): void }
  >;
  const Kind = kinds[object.kind];
  if (Kind === undefined) return [`${object.kind} of ${object.apiVersion} is no kind that Kubernetes has`];
  const faults = declaredFaults(object, declarationOf(`${module}/${object.kind}`), object.kind);
  try {
    new Kind(object).validate();
  } catch (error) {
    faults.push(`${object.kind} ${object.metadata.name}: ${(error as Error).message}`);
  }
  return faults;
}

const dnsName = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const label = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

function nameFaults({ kind, metadata, spec }: Manifest): string[] {
  const name = metadata.name;
  const labels = [metadata.labels, spec?.template?.metadata.labels ?? {}].flatMap(Object.entries<unknown>);
  return [
    ...(dnsName.test(name) && name.length <= 63 ? [] : [`${kind}: "${name}" is no name`]),
    ...labels
      .filter(([, value]) => typeof value !== 'string' || !label.test(value))
      .map(([key, value]) => `${kind} ${name}: ${key}: ${JSON.stringify(value)} is no value of a label`),
  ];
}

/** Members of a declared interface; null: its values are not looked into. */
type Members = ReadonlyMap<string, { file: string; isOne: boolean } | null>;

const read = new Map<string, Members | null>();

function declarationOf(module: string): string {
  return fileURLToPath(import.meta.resolve(module)).replace(/(\.js)?$/, '.d.ts');
}

/** The interface that a declaration file exports; null: it declares a plain value, such as a quantity. */
function membersOf(file: string): Members | null {
  const known = read.get(file);
  if (known !== undefined) return known;
  const text = readFileSync(file, 'utf8').replaceAll(/\/\*[\s\S]*?\*\//g, '');
  const body = /^export interface \w+(?: extends \w+)? \{\n([\s\S]*?)^\}/m.exec(text)?.[1];
  const imports = new Map(
    [...text.matchAll(/^import \{ (\w+) \} from "([^"]+)";/gm)].map((match) => [match[1], match[2]]),
  );
  const members =
    body === undefined
      ? null
      : new Map(
          [...body.matchAll(/^ {4}"([^"]+)"\??: ([\s\S]*?);\n(?= {4}"|\s*$)/gm)].map(([, key, type]) => {
            const from = imports.get(/\bIIo\w+/.exec(type as string)?.[0]);
            // The others are lists, and objects with keys of one's own.
            const isOne = type?.startsWith('I') === true;
            return [key as string, from === undefined ? null : { file: placed(from, file), isOne }];
          }),
        );
  read.set(file, members);
  return members;
}

function placed(from: string, file: string): string {
  if (!from.startsWith('.')) return declarationOf(from);
  const place = join(dirname(file), from.replace(/\.js$/, '.d.ts'));
  if (!existsSync(place)) throw new Error(`${file} imports ${from}, which is not there`);
  return place;
}

function declaredFaults(value: unknown, file: string, place: string): string[] {
  const members = membersOf(file);
  if (members === null || value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, inner]) => {
    const member = members.get(key);
    if (member === undefined) return [`${place}.${key} is not known to Kubernetes`];
    if (member === null || inner === null) return [];
    const parts = member.isOne ? [inner] : Object.values(inner as object);
    return parts.flatMap((one) => declaredFaults(one, member.file, `${place}.${key}`));
  });
}

interface Keys {
  readonly [key: string]: Keys | null;
}

/** Kinds that Kubernetes learns from others, with the keys that we use; null: what is below is not looked into. */
const customKinds: Readonly<Record<string, Keys>> = {
  'monitoring.coreos.com/v1/ServiceMonitor': {
    apiVersion: null,
    kind: null,
    metadata: { name: null, labels: null },
    spec: {
      jobLabel: null,
      selector: { matchLabels: null },
      endpoints: { port: null, path: null, interval: null },
    },
  },
  'monitoring.coreos.com/v1/PrometheusRule': {
    apiVersion: null,
    kind: null,
    metadata: { name: null, labels: null },
    spec: {
      groups: { name: null, rules: { alert: null, expr: null, for: null, labels: null, annotations: null } },
    },
  },
};

function keyFaults(value: object, known: Keys, place: string): string[] {
  return Object.entries(value).flatMap(([key, inner]) => {
    const keys = known[key];
    if (keys === undefined) return [`${place}.${key} is not known to us`];
    if (keys === null) return [];
    const parts: object[] = Array.isArray(inner) ? inner : [inner];
    return parts.flatMap((one) => keyFaults(one, keys, `${place}.${key}`));
  });
}
