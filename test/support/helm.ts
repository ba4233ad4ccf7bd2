// Why this room exists: the chart is rendered as an operator's helm would, also where no helm is.
// Invariant: values are held against values.schema.json before they are rendered, as helm does; what cannot be rendered is a
// Refused with the reason, and nothing else is.
// Next room: tools/helm-render/main.go, the stand-in; kubernetes.ts, which judges what comes out.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Ajv, type ValidateFunction } from 'ajv';
import { parseAllDocuments } from 'yaml';
import { findProgram } from './children.ts';
import { librariesFromDebian } from './debian.ts';
import { findGo } from './go.ts';

/** The folder of the chart. */
export const chart = fileURLToPath(new URL('../../helm/errand', import.meta.url));

/** An object of Kubernetes, as far as the chart's are looked into; kubernetes.ts checks the whole. */
export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; labels: Labels; annotations?: Labels };
  spec?: {
    replicas?: number;
    minReadySeconds?: number;
    strategy?: { rollingUpdate: { maxSurge: number; maxUnavailable: number } };
    selector?: Labels & { matchLabels?: Labels };
    podSelector?: { matchLabels: Labels };
    template?: { metadata: { labels: Labels; annotations?: Labels }; spec: PodSpec };
    ports?: { name: string; port: number; targetPort: string }[];
    endpoints?: { port: string; path: string }[];
    groups?: { name: string; rules: { alert: string; expr: string }[] }[];
    rules?: { http: { paths: { backend: { service: { name: string; port: { name: string } } } }[] } }[];
    ingress?: { from: object[]; ports: { port: string }[] }[];
    egress?: { to?: object[]; ports: { port: number | string }[] }[];
  };
  data?: Record<string, string>;
}

type Labels = Record<string, string>;

interface PodSpec {
  automountServiceAccountToken: boolean;
  enableServiceLinks: boolean;
  serviceAccountName?: string;
  terminationGracePeriodSeconds: number;
  securityContext: object;
  topologySpreadConstraints?: { labelSelector: { matchLabels: Labels } }[];
  volumes?: { name: string; configMap?: { name: string } }[];
  containers: Container[];
}

export interface Container {
  image: string;
  command?: string[];
  lifecycle?: object;
  securityContext: object;
  ports?: { name: string; containerPort: number }[];
  env: EnvVar[];
  volumeMounts?: { name: string; mountPath: string }[];
  startupProbe: Probe;
  livenessProbe: Probe;
  readinessProbe: Probe;
}

export interface EnvVar {
  name: string;
  value?: string;
  valueFrom?: { secretKeyRef: { name: string; key: string } };
}

interface Probe {
  httpGet: { path: string; port: string };
  failureThreshold: number;
  periodSeconds: number;
}

export interface Rendered {
  objects: Manifest[];
  /** NOTES.txt; null: this renderer does not tell. */
  notes: string | null;
}

/** The values were refused; the message is what the operator reads. */
export class Refused extends Error {}

/** Renders the chart: files by name, values as objects, the later ones win. Throws {@link Refused}. */
export type Render = (release: string, ...values: readonly (string | object)[]) => Promise<Rendered>;

const run = promisify(execFile);
const cache = fileURLToPath(new URL('../../.cache', import.meta.url));
const source = fileURLToPath(new URL('../../tools/helm-render/main.go', import.meta.url));
const limit_ms = 20_000;
const patience_ms = 90_000;

/** The helm of this machine, else the stand-in; where there is neither, why its tests are skipped. */
export async function findRenderer(): Promise<{ render: Render; skip: string | false }> {
  const helm = findProgram('helm');
  try {
    return { render: withFiles(helm === null ? standIn(await soon(built())) : byHelm(helm)), skip: false };
  } catch (error) {
    const skip = `NOT RUN: no helm, and no stand-in for it: ${(error as Error).message}`;
    return { render: () => Promise.reject(new Error(skip)), skip };
  }
}

/** Gives values that are objects a file for as long as they are rendered. */
function withFiles(render: RenderFiles): Render {
  return async (release, ...values) => {
    const folder = await mkdtemp(join(tmpdir(), 'errand-values-'));
    try {
      return await render(release, await filesOf(values, folder));
    } finally {
      await rm(folder, { recursive: true });
    }
  };
}

/** A first run fetches a compiler; where that takes longer than a test file may, there is no renderer this time. */
function soon<T>(work: Promise<T>): Promise<T> {
  const late = new Promise<never>((_, reject) => {
    setTimeout(
      () => reject(new Error(`it was not there after ${patience_ms / 1_000} s`)),
      patience_ms,
    ).unref();
  });
  return Promise.race([work, late]);
}

async function filesOf(values: readonly (string | object)[], folder: string): Promise<string[]> {
  return Promise.all(
    values.map(async (one, i) => {
      if (typeof one === 'string') return one;
      const file = join(folder, `${i}.yaml`);
      await writeFile(file, JSON.stringify(one));
      return file;
    }),
  );
}

type RenderFiles = (release: string, files: readonly string[]) => Promise<Rendered>;

function byHelm(helm: string): RenderFiles {
  return async (release, files) => {
    const words = ['template', release, chart, '--namespace', 'jobs', '--kube-version', '1.30.0'];
    const called = run(helm, [...words, ...files.flatMap((file) => ['--values', file])], {
      timeout: limit_ms,
    });
    const { stdout } = await called.catch((error: Error & { stderr?: string }) => {
      throw new Refused(error.stderr ?? error.message);
    });
    return { objects: objectsOf(stdout), notes: null };
  };
}

function standIn(program: string): RenderFiles {
  return async (release, files) => {
    const { stdout } = await run(program, [chart, release, 'jobs', ...files], { timeout: limit_ms });
    const answer = JSON.parse(stdout) as { values: unknown; files: Record<string, string>; error: string };
    const faults = await valueFaults(answer.values);
    if (faults.length > 0) throw new Refused(faults.join('\n'));
    if (answer.error !== '') throw new Refused(answer.error);
    const { 'NOTES.txt': notes = '', ...manifests } = answer.files;
    return { objects: objectsOf(Object.values(manifests).join('\n---\n')), notes };
  };
}

let schemaCheck: Promise<ValidateFunction> | undefined;

async function compiledSchema(): Promise<ValidateFunction> {
  const ajv = new Ajv({ allErrors: true, strict: true, strictTypes: false });
  return ajv.compile(JSON.parse(await readFile(join(chart, 'values.schema.json'), 'utf8')));
}

/** What values.schema.json says against values, each with the name of the value. */
export async function valueFaults(values: unknown): Promise<string[]> {
  schemaCheck ??= compiledSchema();
  const check = await schemaCheck;
  check(values);
  return (check.errors ?? []).map(({ instancePath, message, params }) => {
    const place = instancePath.slice(1).replaceAll('/', '.');
    return `${place}: ${message} ${JSON.stringify(params)}`;
  });
}

/** Kubernetes reads YAML 1.1, in which an unquoted off is a boolean. */
function objectsOf(text: string): Manifest[] {
  return parseAllDocuments(text, { version: '1.1' })
    .map((document) => {
      if (document.errors.length > 0) throw document.errors[0];
      return document.toJS() as Manifest | null;
    })
    .filter((object) => object !== null);
}

/** The stand-in, compiled once for each version of its source. */
async function built(): Promise<string> {
  const version = createHash('sha256')
    .update(await readFile(source))
    .digest('hex');
  const program = join(cache, 'helm-render', version.slice(0, 12));
  const isThere = await access(program).then(
    () => true,
    () => false,
  );
  if (isThere) return program;
  const root = await librariesFromDebian('golang-sprig', [
    'golang-github-masterminds-sprig-dev',
    'golang-k8s-sigs-yaml-dev',
  ]);
  const folder = await mkdtemp(join(tmpdir(), 'errand-helm-render-'));
  try {
    const go = await findGo(folder, join(root, 'usr/share/gocode'));
    await mkdir(join(cache, 'helm-render'), { recursive: true });
    const fresh = join(cache, 'helm-render', basename(folder));
    await go.build(source, fresh);
    await rename(fresh, program);
    return program;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
