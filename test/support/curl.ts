// Why this room exists: curl is what people paste, and its reading of Expect and 417 has traps of its own.
// Next room: test/http/connections.test.ts.
import { spawn } from 'node:child_process';

/** What became of one run of curl. */
export interface Curled {
  exit: number | null;
  /** The status of the last answer. */
  status: number;
  body: string;
  /** How many requests it sent. */
  sent: number;
}

/** Runs curl on a URL with a body on its standard input; it is stopped after 8 s. */
export function curl(url: string, args: readonly string[], body: string | Buffer = ''): Promise<Curled> {
  const child = spawn('curl', ['-sS', '-v', '--max-time', '8', '-w', '\n%{http_code}', ...args, url]);
  const chunks: Buffer[] = [];
  let trace = '';
  child.stdout.on('data', (chunk) => chunks.push(chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    trace += chunk;
  });
  child.stdin.on('error', () => {});
  child.stdin.end(body);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (exit) => {
      const text = Buffer.concat(chunks).toString();
      const end = text.lastIndexOf('\n');
      const sent = [...trace.matchAll(/^> [A-Z]+ \S+ HTTP\//gm)].length;
      resolve({ exit, status: Number(text.slice(end + 1)), body: text.slice(0, end), sent });
    });
  });
}
