// Who does something: the name a caller gives in Errand-Actor, and the request it came with. Nothing proves the name; it is
// what the audit tells of who acted.
// Next room: store/audit.ts, which keeps it.

/** Who does something, and by which request. */
export interface By {
  readonly actor: string;
  readonly request_id: string;
}

/** The actor of who gives no name. */
export const anonymous = 'anonymous';

/** A name that may stand in the audit: 1 to 128 printable ASCII characters, no blank at its ends. */
export const actorPattern = /^[\x21-\x7e]([\x20-\x7e]{0,126}[\x21-\x7e])?$/;

/** Whether a name may stand in the audit. */
export function isActor(name: string): boolean {
  return actorPattern.test(name);
}
