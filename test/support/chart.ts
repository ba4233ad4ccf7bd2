// Why this room exists: what a chart renders only counts by what it means to the program: here a container's environment is
// read as the program in the image would read it.
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
export const isSelected = (labels: Record<string, string>, selector: Record<string, string>) =>
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
