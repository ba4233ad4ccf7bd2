// Why this room exists: targets are written from the guide and the example, so both are run here: the target in Python
// against a real service, and what the guide says about signatures in three languages against what is signed.
// Next room: docs/guides/push.md.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { sign } from '../../src/domain/signature.ts';
import { exitWithin, findProgram, spawnTied } from '../support/children.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { neutralEnvironment } from '../support/process.ts';
import { until } from '../support/until.ts';

const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url));
const GUIDE = readFileSync(new URL('../../docs/guides/push.md', import.meta.url), 'utf8');
const key = randomBytes(32);
const secret = `whsec_${key.toString('base64')}`;

describe('push_target.py', { skip: missing('python3') }, () => {
  let errand: TestErrand;
  let target: ChildProcess;
  let url: string;
  let printed = '';

  before(async () => {
    errand = await startErrand({ env: { ERRAND_SIGNING_SECRETS: secret } });
    const env = { SIGNING_SECRET: secret, ERRAND_URL: errand.url, PORT: '0', PYTHONDONTWRITEBYTECODE: '1' };
    target = spawnTied('python3', [`${EXAMPLES}push_target.py`], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...neutralEnvironment(process.env), ...env },
    });
    for (const stream of [target.stdout, target.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
      });
    }
    const port = await until(() => /waiting for jobs on port (\d+)/.exec(printed)?.[1]);
    url = `http://127.0.0.1:${port}/`;
  });

  after(async () => {
    target.kill('SIGTERM');
    const { gone, code } = await exitWithin(target, 5_000);
    target.kill('SIGKILL');
    await errand.stop();
    assert.deepEqual([gone, code], [true, 0], printed);
  });

  async function ended(payload: unknown, timeout_seconds = 30) {
    const options = { target: { url, method: 'POST' as const } };
    const submission = aSubmission({ payload: JSON.stringify(payload), timeout_seconds, options });
    const { id } = await errand.actions.submit(submission);
    const facts = await until(async () => {
      const job = await errand.actions.inspect.job(id);
      return job && ['succeeded', 'dead'].includes(job.state) ? job : null;
    });
    return { ...facts, result: (await errand.actions.inspect.result(id))?.result ?? null };
  }

  test('answers with the result', async () => {
    const { state, result } = await ended({ text: 'to be or not to be' });
    assert.deepEqual([state, JSON.parse(result as string)], ['succeeded', { words: 6 }]);
  });

  test('says of what will never be right why, and the job is dead after one attempt', async () => {
    const { state, attempt, class: kind, error } = await ended({ text: 7 });
    assert.deepEqual([state, attempt, kind], ['dead', 1, 'permanent']);
    assert.equal(error, 'the target answered 422: the payload must be an object with a text');
  });

  test('takes longer work over and completes it by its lease', async () => {
    const { state, epoch, result } = await ended({ text: 'a b', takes_seconds: 2 });
    assert.deepEqual([state, epoch, JSON.parse(result as string)], ['succeeded', 1, { words: 2 }]);
    await until(() => / is complete/.test(printed));
  });

  test('answers a job that comes again as it did the first time, and refuses what is not signed', async () => {
    const send = (body: string, signed = body) => {
      const timestamp = Math.floor(Date.now() / 1_000);
      const message = { id: '4711', timestamp, body: Buffer.from(signed) };
      const headers = {
        'webhook-id': '4711',
        'webhook-timestamp': String(timestamp),
        'webhook-signature': sign(message, [key]),
      };
      return fetch(url, { method: 'POST', body, headers });
    };
    assert.deepEqual(await (await send('{"text":"a b c"}')).json(), { words: 3 });
    assert.deepEqual(await (await send('{"text":"another"}')).json(), { words: 3 });
    assert.equal((await send('{"text":"forged"}', '{"text":"a b c"}')).status, 401);
    const bare = await fetch(url, { method: 'POST', body: '{"text":"a"}' });
    assert.equal(bare.status, 401);
    assert.equal(bare.headers.get('content-type'), 'application/problem+json');
  });
});

describe('the guide verifies signatures', () => {
  const body = Buffer.from('{"text":"grüße","n":12345678901234567890}\n');
  const timestamp = Math.floor(Date.now() / 1_000);
  const signatures = sign({ id: '48213', timestamp, body }, [randomBytes(24), key]);
  type Judge = (
    secret: string,
    sentAt: number,
    signatures: string,
    body: Buffer,
  ) => Promise<boolean> | boolean;

  async function judges(judge: Judge): Promise<void> {
    const early = timestamp - 400;
    const old = sign({ id: '48213', timestamp: early, body }, [key]);
    assert.equal(await judge(secret, timestamp, signatures, body), true);
    assert.equal(
      await judge(`whsec_${randomBytes(32).toString('base64')}`, timestamp, signatures, body),
      false,
    );
    assert.equal(await judge(secret, timestamp, signatures, Buffer.from('{}')), false);
    assert.equal(await judge(secret, timestamp - 1, signatures, body), false);
    assert.equal(await judge(secret, early, old, body), false);
    assert.equal(await judge(secret, timestamp, 'v1,AAAA v2,x', body), false);
  }

  /** What a script prints that gets the parts as words and the body as its input. */
  function printedBy(command: string, words: string[]): Judge {
    return (...[given, sentAt, list, input]) => {
      const all = [...words, given, '48213', String(sentAt), list];
      return execFileSync(command, all, { input, encoding: 'utf8' }).trim() === 'genuine';
    };
  }

  test('in Python, as the example does', { skip: missing('python3') }, async () => {
    const [, shown = ''] = /^```python\n(.*?)^```/ms.exec(GUIDE) ?? [];
    assert.ok(shown.length > 100 && readFileSync(`${EXAMPLES}verify_signature.py`, 'utf8').includes(shown));
    await judges(printedBy('python3', [`${EXAMPLES}verify_signature.py`]));
  });

  test('in JavaScript', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'errand-guide-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'verify.mjs');
    writeFileSync(file, /^```js\n(.*?)^```/ms.exec(GUIDE)?.[1] ?? '');
    const { isGenuine } = (await import(pathToFileURL(file).href)) as {
      isGenuine(secret: string, headers: Record<string, string>, body: Buffer): boolean;
    };
    await judges((given, sentAt, list, input) => {
      const named = { 'webhook-id': '48213', 'webhook-timestamp': String(sentAt), 'webhook-signature': list };
      return isGenuine(given, named, input);
    });
    assert.equal(isGenuine(secret, {}, body), false);
  });

  test('in a shell', { skip: missing('sh', 'openssl', 'od') }, async () => {
    const script = /^```bash\n(.*?)^```/ms.exec(GUIDE)?.[1] ?? '';
    await judges(printedBy('sh', ['-euc', script, 'verify']));
  });
});

function missing(...programs: string[]): string | false {
  const absent = programs.filter((program) => findProgram(program) === null);
  return absent.length > 0 && `not on PATH: ${absent.join(', ')}`;
}
