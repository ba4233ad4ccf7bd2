// Why this room exists: every program the launcher calls (true, initdb, chown …) must end or be ended.
// Invariant: no call waits without a limit, and nothing of our own environment (PGPORT, PGOPTIONS, locale) leaks in.
// Next room: privilege.ts, which tries ways of running with it.
import { spawn } from 'node:child_process';

export interface CommandResult {
  /** True when the program ran and exited with 0. */
  ok: boolean;
  /** Standard output and standard error, in order of arrival, trimmed. */
  output: string;
}

/** Runs one program to its end; after `timeoutMs` it is killed and counts as failed. Never rejects. */
export function runBounded(
  command: string,
  args: readonly string[],
  { timeoutMs }: { timeoutMs: number },
): Promise<CommandResult> {
  return new Promise((resolve) => {
    let output = '';
    const child = spawn(command, args, {
      cwd: '/',
      env: quietEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const limit = setTimeout(() => {
      output += `\n${command} did not end within ${timeoutMs} ms and was killed`;
      child.kill('SIGKILL');
    }, timeoutMs);
    const collect = (chunk: string) => {
      output += chunk;
    };
    child.stdout.setEncoding('utf8').on('data', collect);
    child.stderr.setEncoding('utf8').on('data', collect);
    child.once('error', (error) => {
      clearTimeout(limit);
      resolve({ ok: false, output: error.message });
    });
    child.once('close', (code) => {
      clearTimeout(limit);
      resolve({ ok: code === 0, output: output.trim() });
    });
  });
}

/** The environment of every Postgres program: messages in English (we read them), times in UTC, no PG* variables. */
export function quietEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const kept: NodeJS.ProcessEnv = { LC_ALL: 'C', TZ: 'UTC', ...extra };
  // Windows programs do not start without SystemRoot; the others matter to all.
  for (const name of ['PATH', 'Path', 'SystemRoot', 'TEMP', 'TMP', 'TMPDIR']) {
    const value = process.env[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept;
}
