// A change to a part of a JSON value (RFC 7396): members that are null go, objects are changed in depth, the rest is replaced.
// Invariant: what is opaque (RawJson) is one value, whatever it holds.
// Next room: http/definition.ts.
import { RawJson } from './json.ts';

type Members = Readonly<Record<string, unknown>>;

/** The value as the patch leaves it. */
export function mergePatch(value: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const members = new Map(Object.entries(isObject(value) ? value : {}));
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) members.delete(name);
    else members.set(name, mergePatch(members.get(name), change));
  }
  return Object.fromEntries(members);
}

function isObject(value: unknown): value is Members {
  return value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof RawJson);
}
