// Which lanes somebody takes jobs from: names of queues and types, or beginnings of them with a `*` at the end.
// Invariant: what is pushed is taken by those who push and by nobody else.
// Next room: actions/pull.ts, which claims by it; actions/roster.ts, which tells who takes what.
import { isHeld, isPushed, typeOf } from './options.ts';

/** What somebody takes. Empty = all, but for the types of those who push, which are all anyway. */
export interface Taking {
  readonly queues: readonly string[];
  readonly types: readonly string[];
  readonly pushes: boolean;
}

/** Whether jobs of a lane are taken by a pull worker that asks for these queues and types; empty = all. */
export function pulls({ queue, route }: Line, { queues, types }: Omit<Taking, 'pushes'>): boolean {
  return !route.startsWith(':') && fits(queue, queues) && fits(route, types);
}

/** Whether jobs of a lane are run by a process with handlers for these types, or that pushes. */
export function runs({ route }: Line, { types, pushes }: Omit<Taking, 'queues'>): boolean {
  if (isHeld(route)) return false;
  return isPushed(route) ? pushes : types.includes(typeOf(route));
}

interface Line {
  readonly queue: string;
  readonly route: string;
}

function fits(name: string, patterns: readonly string[]): boolean {
  if (patterns.length === 0) return true;
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
  );
}
