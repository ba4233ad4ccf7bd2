// Why this room exists: what a chart renders only counts by what it means to the program: here a container's environment is
// read as the program in the image would read it, and what points at something else is followed.
// Next room: src/config.ts, which reads it; helm.ts, which renders.
import assert from 'node:assert/strict';
import { type Config, readConfig } from '../../src/config.ts';
import type { Container, Manifest } from './helm.ts';

/** Objects of a kind. */
export const ofKind = (objects: readonly Manifest[], kind: string) =>
  objects.filter((object) => object.kind === kind);
/** What pods of these objects are made by. */
export const podsOf = (objects: readonly Manifest[]) =>
  objects.flatMap((object) => (object.spec?.template === undefined ? [] : [object.spec.template]));
/** Whether a selector means what has these labels. */
const isSelected = (labels: Record<string, string>, selector: Record<string, string>) =>
  Object.entries(selector).every(([name, value]) => labels[name] === value);

/** What the program reads of a container's environment, in the image. */
export function configOf(container: Container, objects: readonly Manifest[]): Config {
  const secrets: Record<string, string> = {
    DATABASE_URL: 'postgres://errand:secret@postgres/errand',
    ERRAND_DIRECT_DATABASE_URL: 'postgres://errand:secret@postgres/errand',
    REDIS_URL: 'redis://redis',
    ERRAND_SIGNING_SECRETS: `whsec_${Buffer.alloc(32).toString('base64')}`,
  };
  const env: Record<string, string> = { NODE_ENV: 'production', HOST: '0.0.0.0' };
  for (const { name, value, valueFrom } of container.env) {
    assert.ok(!(name in env), `${name} is set twice`);
    assert.ok((value === undefined) !== (valueFrom === undefined), `${name} has one value`);
    env[name] = value ?? secrets[name] ?? 'secret';
  }
  const { ERRAND_SCHEDULES_FILE: file, ...rest } = env;
  if (file === undefined) return readConfig(rest);
  return readConfig({ ...rest, ERRAND_SCHEDULES: mounted(file, container, objects) });
}

/** The text that a container finds in a file of a ConfigMap of the chart. */
export function mounted(file: string, container: Container, objects: readonly Manifest[]): string {
  const mount = container.volumeMounts?.find(({ mountPath }) => file.startsWith(`${mountPath}/`));
  const pod = podsOf(objects).find(({ spec }) => spec.containers.includes(container));
  const volume = pod?.spec.volumes?.find(({ name }) => name === mount?.name);
  const map = objects.find(
    ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === volume?.configMap?.name,
  );
  const text = map?.data?.[file.slice((mount?.mountPath.length ?? 0) + 1)];
  assert.ok(text !== undefined, `${file} is mounted`);
  return text;
}

/** Throws unless what points at something by labels, names or ports points at what is meant, and at nothing else. */
export function assertFitting(objects: readonly Manifest[]): void {
  const deployments = ofKind(objects, 'Deployment');
  const pods = podsOf(deployments);
  for (const one of deployments)
    assert.deepEqual(chosenBy(pods, one.spec?.selector?.matchLabels), podsOf([one]), one.metadata.name);
  for (const { spec } of [...ofKind(objects, 'PodDisruptionBudget'), ...ofKind(objects, 'NetworkPolicy')])
    assert.ok(chosenBy(pods, spec?.selector?.matchLabels ?? spec?.podSelector?.matchLabels).length > 0);
  const accounts = ofKind(objects, 'ServiceAccount').map(({ metadata }) => metadata.name);
  for (const { spec } of pods) assert.ok(accounts.includes(spec.serviceAccountName ?? ''));
  for (const service of ofKind(objects, 'Service')) {
    assertServing(service, pods);
    // What migrates answers nobody.
    assert.deepEqual(chosenBy(podsOf(ofKind(objects, 'Job')), service.spec?.selector), []);
  }
  for (const door of [...ofKind(objects, 'Ingress'), ...ofKind(objects, 'ServiceMonitor')])
    assertLeading(door, ofKind(objects, 'Service'));
}

type Pod = ReturnType<typeof podsOf>[number];

function chosenBy(pods: readonly Pod[], selector: Record<string, string> = {}): Pod[] {
  return pods.filter((pod) => isSelected(pod.metadata.labels, selector));
}

/** A Service leads to those who answer calls, that of the metrics to all; each has the port. */
function assertServing({ metadata, spec }: Manifest, pods: readonly Pod[]): void {
  const component = 'app.kubernetes.io/component';
  const answers = ({ metadata: { labels } }: Pod) => /^(all|api)$/.test(labels[component] ?? '');
  const meant = metadata.labels[component] === 'metrics' ? pods : pods.filter(answers);
  assert.deepEqual(chosenBy(pods, spec?.selector), meant, metadata.name);
  assert.equal(spec?.ports?.length, 1);
  for (const pod of meant)
    assert.equal(pod.spec.containers[0]?.ports?.[0]?.name, spec.ports[0]?.targetPort, metadata.name);
}

/** An Ingress and a ServiceMonitor lead to one Service, by a port that it has. */
function assertLeading({ kind, spec }: Manifest, services: readonly Manifest[]): void {
  const backend = spec?.rules?.[0]?.http.paths[0]?.backend.service;
  const meant = services.filter(({ metadata }) =>
    kind === 'Ingress'
      ? metadata.name === backend?.name
      : isSelected(metadata.labels, spec?.selector?.matchLabels ?? {}),
  );
  assert.equal(meant.length, 1, kind);
  assert.equal(meant[0]?.spec?.ports?.[0]?.name, backend?.port.name ?? spec?.endpoints?.[0]?.port, kind);
}
