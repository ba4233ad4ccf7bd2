// Why this room exists: the pull workers of examples/ as programs that can be started.
// Next room: conformance.ts, what they have to do; test/drills/languages.ts, where Go joins them.
import { fileURLToPath } from 'node:url';
import type { Program } from './bench.ts';
import { findProgram } from './children.ts';

export interface Example extends Program {
  /** The reason to skip it: nobody should have to install a language for "npm test". */
  skip: string | false;
}

const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url));

/** Those that run as they stand. */
export const scripts: readonly Example[] = [
  example('worker.sh', 'bash', ['bash', 'curl']),
  example('worker.py', 'python3', ['python3']),
  example('worker.ts', process.execPath, []),
];

/** Where an example lies. */
export const exampleFile = (name: string): string => EXAMPLES + name;

function example(name: string, program: string, needs: readonly string[]): Example {
  const absent = needs.filter((need) => findProgram(need) === null);
  const skip = absent.length > 0 && `not on PATH: ${absent.join(', ')}`;
  return { name, words: [program, EXAMPLES + name], skip };
}
