// The decision tables of http-contract, 4.2 (what the headers ask for) and 4.3 (what the job answers), written down as data
// and asked in full over raw sockets: every way to ask × both versions of HTTP × every end a job can have.
// A row of the contract is one line of `ends`; a way to write a demand is one line of `asks`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FakeJobs } from '../support/fake-actions.ts';
import { inParallel, post, problemOf, type Served, send, serve, type WireAnswer } from '../support/serve.ts';

type Header = readonly [string, string];
type Sync = '200-ok' | '201-created' | '204-no-content';
type Column = Sync | 'soft' | 'async';

/** A way to ask, and what is to be understood of it. */
interface Ask {
  headers: readonly Header[];
  column: Column;
  mode: string;
  /** `Preference-Applied` on a 202, and on the outcome of the job. */
  applied: string | undefined;
  appliedToOutcome: string | undefined;
  minimal: boolean;
}

const env = { ERRAND_WAIT_DEFAULT_SECONDS: '0.2', ERRAND_WAIT_CAP_SECONDS: '0.4' };
const versions = ['1.1', '1.0'] as const;
const demands: readonly Sync[] = ['200-ok', '201-created', '204-no-content'];

const asksFor = (demand: Sync): Ask[] => {
  const mixed = demand.replace(/-./, (letter) => letter.toUpperCase());
  const plain: (readonly Header[])[] = [
    [['Expect', demand]],
    [['Expect', mixed]],
    [['expect', demand.toUpperCase()]],
    [['Expect', `100-continue, ${demand}`]],
    [['Expect', `${mixed}, 100-Continue`]],
    [
      ['Expect', '100-continue'],
      ['Expect', demand],
    ],
    [
      ['Expect', demand],
      ['Expect', demand],
    ],
    [['Errand-Expect', demand]],
    [['Errand-Expect', `,${mixed} , `]],
    [
      ['Expect', demand],
      ['Errand-Expect', mixed],
    ],
    [
      ['Expect', '100-continue'],
      ['Errand-Expect', demand],
    ],
    [
      ['Expect', demand],
      ['Prefer', 'respond-async, return=minimal'],
    ],
    [
      ['Expect', demand],
      ['Prefer', 'wait=0'],
    ],
    [
      ['Expect', demand],
      ['Prefer', 'wait=soon'],
    ],
  ];
  const clamped: (readonly Header[])[] = [
    [
      ['Expect', demand],
      ['Prefer', 'wait=7'],
    ],
    [
      ['Errand-Expect', demand],
      ['Prefer', 'respond-async, wait=7'],
    ],
  ];
  const ask = (headers: readonly Header[], wait: string, applied?: string): Ask => ({
    headers,
    column: demand,
    mode: `sync;expect="${demand}";wait=${wait}`,
    applied: undefined,
    appliedToOutcome: applied,
    minimal: false,
  });
  return [
    ...plain.map((headers) => ask(headers, '0.2')),
    ...clamped.map((headers) => ask(headers, '0.4', 'wait=0.4')),
  ];
};

const asksForSoft: Ask[] = (
  [
    [[['Prefer', 'wait=1']], 'wait=0.4'],
    [[['prefer', 'WAIT="3"']], 'wait=0.4'],
    [[['Prefer', 'wait=99999999999']], 'wait=0.4'],
    [[['Prefer', 'respond-async, wait=1']], 'respond-async, wait=0.4'],
    [
      [
        ['Prefer', 'wait=1'],
        ['Prefer', 'respond-async'],
      ],
      'respond-async, wait=0.4',
    ],
    [[['Prefer', 'x=y; z, wait=1;u=v, wait=0']], 'wait=0.4'],
    [
      [
        ['Expect', '100-continue'],
        ['Prefer', 'wait=1'],
      ],
      'wait=0.4',
    ],
    [[['Prefer', 'return=minimal, wait=1']], 'wait=0.4'],
  ] as [Header[], string][]
).map(([headers, applied]) => {
  const minimal = headers.some(([, value]) => value.includes('minimal'));
  return {
    headers,
    column: 'soft',
    mode: 'soft;wait=0.4',
    applied: minimal ? `${applied}, return=minimal` : applied,
    appliedToOutcome: applied,
    minimal,
  };
});

const asksForAsync: Ask[] = (
  [
    [[], undefined],
    [[['Expect', '']], undefined],
    [[['Expect', '100-continue']], undefined],
    [[['Expect', '100-CONTINUE,']], undefined],
    [[['Errand-Expect', '100-continue']], undefined],
    [[['Prefer', 'respond-async']], 'respond-async'],
    [[['Prefer', 'wait=0']], undefined],
    [[['Prefer', 'wait=-1']], undefined],
    [[['Prefer', 'wait=1e9']], undefined],
    [[['Prefer', 'wait=abc, ;;;=, "']], undefined],
    [[['Prefer', 'return=minimal']], 'return=minimal'],
    [[['Prefer', 'return=representation']], undefined],
    [[['Expect', '202-accepted']], undefined],
    [[['Expect', '202-Accepted']], undefined],
    [[['Expect', '100-continue, 202-Accepted']], undefined],
    [[['Errand-Expect', '202-ACCEPTED']], undefined],
    [
      [
        ['Expect', '202-accepted'],
        ['Prefer', 'wait=5, respond-async'],
      ],
      'respond-async',
    ],
  ] as [Header[], string | undefined][]
).map(([headers, applied]) => ({
  headers,
  column: 'async',
  mode: headers.some(([, value]) => /202/.test(value)) ? 'async;expect="202-accepted"' : 'async;expect=none',
  applied,
  appliedToOutcome: undefined,
  minimal: applied?.includes('minimal') ?? false,
}));

const asks: Ask[] = [...demands.flatMap(asksFor), ...asksForSoft, ...asksForAsync];

/** What a cell of table 4.3 says. */
interface Cell {
  status: number;
  location?: string | undefined;
  contentLocation?: string | undefined;
  /** `accepted` is the record of a 202, which a minimal return leaves out. */
  body: 'result' | 'record' | 'accepted' | 'none' | 'problem';
  code?: string;
  executed?: unknown;
  /** The state of the job afterwards. */
  state?: string;
}

interface End {
  /** The row of the contract. */
  row: string;
  /** What happens to the job, at once or soon. */
  script: (jobs: FakeJobs, id: string) => void;
  body?: object;
  cell: (column: Column) => Cell;
}

const result = '{"n":9007199254740993, "e":1e400}';
const uri = 'https://app.example/things/7';
const record = '/v1/jobs/{id}';
const accepted: Cell = {
  status: 202,
  location: `${record}/status`,
  contentLocation: record,
  body: 'accepted',
};

const failed =
  (status: number, code = 'job-failed') =>
  (): Cell => ({ status, body: 'problem', code });
const ranOut =
  (executed: unknown, state: string) =>
  (column: Column): Cell =>
    column === 'soft'
      ? { ...accepted, state: executed === false ? 'open' : state }
      : {
          status: 417,
          body: 'problem',
          code: 'expectation-timeout',
          location: executed === false ? undefined : `${record}/status`,
          executed,
          state,
        };

const ends: End[] = [
  {
    row: 'succeeded with result',
    script: (jobs, id) => jobs.succeed(id, result),
    cell: (column) => {
      if (column === '201-created')
        return {
          status: 201,
          location: `${record}/result`,
          contentLocation: `${record}/result`,
          body: 'result',
        };
      if (column === '204-no-content')
        return { status: 204, contentLocation: `${record}/result`, body: 'none' };
      return { status: 200, contentLocation: `${record}/result`, body: 'result' };
    },
  },
  {
    row: 'succeeded, named a created resource',
    script: (jobs, id) => jobs.succeed(id, null, uri),
    cell: (column) => {
      if (column === '200-ok') return { status: 200, contentLocation: uri, body: 'record' };
      if (column === '204-no-content') return { status: 204, contentLocation: uri, body: 'none' };
      return { status: 201, location: uri, contentLocation: record, body: 'record' };
    },
  },
  {
    row: 'succeeded, named a created resource and gave a result',
    script: (jobs, id) => jobs.succeed(id, result, uri),
    cell: (column) => {
      if (column === '200-ok') return { status: 200, contentLocation: uri, body: 'result' };
      if (column === '204-no-content') return { status: 204, contentLocation: uri, body: 'none' };
      return { status: 201, location: uri, contentLocation: `${record}/result`, body: 'result' };
    },
  },
  {
    row: 'succeeded, no content',
    script: (jobs, id) => jobs.succeed(id),
    cell: (column) => {
      if (column === '200-ok') return { status: 200, contentLocation: record, body: 'record' };
      if (column === '201-created')
        return { status: 201, location: record, contentLocation: record, body: 'record' };
      return { status: 204, body: 'none' };
    },
  },
  {
    row: 'dead: permanent, declared by a worker',
    script: (jobs, id) => jobs.die(id, 'permanent', 'worker'),
    cell: failed(422),
  },
  {
    row: 'dead: poison, declared by a handler',
    script: (jobs, id) => jobs.die(id, 'poison', 'handler'),
    cell: failed(422),
  },
  {
    row: 'dead: error of a target',
    script: (jobs, id) => jobs.die(id, 'permanent', 'target'),
    cell: failed(502),
  },
  {
    row: 'dead: error of a worker',
    script: (jobs, id) => jobs.die(id, 'retryable', 'worker'),
    cell: failed(502),
  },
  {
    row: 'dead: error of a handler',
    script: (jobs, id) => jobs.die(id, 'retryable', 'handler'),
    cell: failed(500),
  },
  {
    row: 'dead: execution timeout',
    script: (jobs, id) => jobs.die(id, 'timeout', 'errand'),
    cell: failed(504),
  },
  { row: 'expired unstarted', script: (jobs, id) => jobs.expire(id), cell: failed(504, 'job-expired') },
  {
    row: 'cancelled by someone else',
    script: (jobs, id) => jobs.cancel(id),
    cell: failed(409, 'job-cancelled'),
  },
  { row: 'wait ran out, queued', script: () => {}, cell: ranOut(false, 'cancelled') },
  {
    row: 'wait ran out, scheduled',
    body: { delay_seconds: 0.1 },
    script: () => {},
    cell: ranOut(false, 'cancelled'),
  },
  {
    row: 'wait ran out, running',
    script: (jobs, id) => jobs.start(id),
    cell: ranOut('in_progress', 'running'),
  },
  {
    row: 'wait ran out, running, on_timeout cancel',
    body: { on_timeout: 'cancel' },
    script: (jobs, id) => jobs.start(id),
    cell: ranOut('in_progress', 'running'),
  },
  {
    row: 'wait ran out, retrying',
    script: (jobs, id) => jobs.retry(id, 60_000),
    cell: ranOut('in_progress', 'retrying'),
  },
];

for (const end of ends) {
  test(`a job that is ${end.row} answers by its row, however it was asked`, async () => {
    const served = await serve({ env });
    served.jobs.scripts.set('scripted', (id) => {
      // Some ends come before the caller waits, some while it waits.
      setTimeout(() => end.script(served.jobs, id), Number(id) % 3 === 0 ? 0 : 40);
    });
    const faults = await inParallel(
      asks.flatMap((ask) => versions.map((version) => () => faultOf(served, end, ask, version))),
    );
    assert.deepEqual(
      faults.filter((fault) => fault !== null),
      [],
    );
  });
}

async function faultOf(served: Served, end: End, ask: Ask, version: '1.0' | '1.1'): Promise<string | null> {
  const awaits = /100-continue/i.test(valuesOf(ask.headers, 'expect'));
  const answer = await send(served.port, {
    method: 'POST',
    path: '/v1/jobs',
    version,
    headers: [['Content-Type', 'application/json'], ...ask.headers],
    body: JSON.stringify({ type: 'scripted', ...end.body }),
    awaitsContinue: awaits && version === '1.1',
  });
  try {
    assert.equal(answer.continued, awaits && version === '1.1', '100 Continue');
    assert.equal(answer.headers['errand-mode'], ask.mode);
    expectCell(served.jobs, answer, ask.column === 'async' ? accepted : end.cell(ask.column), ask);
    if (end.body !== undefined && 'on_timeout' in end.body && demands.includes(ask.column as Sync)) {
      const id = answer.headers['errand-job-id'] as string;
      assert.equal(served.jobs.jobs.get(id)?.facts.cancel_requested, true, 'asked to stop');
    }
    return null;
  } catch (error) {
    const asked = ask.headers.map((header) => header.join(': ')).join(' | ');
    return `HTTP/${version} ${asked} => ${answer.status} ${answer.body.slice(0, 160)}: ${(error as Error).message}`;
  }
}

function expectCell(jobs: FakeJobs, answer: WireAnswer, cell: Cell, ask: Ask): void {
  const { headers } = answer;
  assert.equal(answer.status, cell.status);
  const id = headers['errand-job-id'] ?? idIn(headers.link);
  const at = (path: string | undefined) => path?.replace('{id}', id);
  assert.equal(headers.link, `</v1/jobs/${id}/status>; rel="status"`);
  if (ask.column !== 'async') assert.equal(headers['errand-job-id'], id);
  assert.equal(headers.location, at(cell.location), 'location');
  assert.equal(headers['content-location'], at(cell.contentLocation), 'content-location');
  const isAccepted = cell.body === 'accepted';
  assert.equal(headers['preference-applied'], isAccepted ? ask.applied : ask.appliedToOutcome);
  assert.equal(headers.connection, answer.closed ? 'close' : 'keep-alive');
  const { facts } = jobs.jobs.get(id) as { facts: { state: string } };
  if (cell.state !== undefined && cell.state !== 'open') assert.equal(facts.state, cell.state);
  if (cell.state === 'open') assert.match(facts.state, /queued|scheduled/);
  switch (cell.body) {
    case 'result':
      assert.equal(answer.body, result);
      assert.equal(headers['content-type'], 'application/json');
      break;
    case 'none':
      assert.equal(answer.body, '');
      break;
    case 'problem': {
      const problem = problemOf(answer);
      assert.equal(problem.code, cell.code);
      assert.equal(problem.status, cell.status);
      assert.equal(problem.type, `/problems/${cell.code}`);
      assert.equal((problem.job as { id: string }).id, id);
      assert.deepEqual(problem.executed, cell.executed);
      if (cell.code === 'expectation-timeout') assert.ok((problem.waited_ms as number) >= 199);
      break;
    }
    default:
      if (isAccepted && ask.minimal) assert.equal(answer.body, '');
      else assert.equal(JSON.parse(answer.body).id, id);
  }
  if (isAccepted && facts.state !== 'succeeded') {
    assert.match(headers.etag ?? '', /^"[^"]+"$/);
  }
}

const refusedAsks: { headers: readonly Header[]; code: string }[] = [
  ...['bogus', '200', '200-ok;x=1', '200-ok;wait=5', '"200-ok"', '100', 'x'.repeat(9_000), 'ä'].flatMap(
    (value) => [
      { headers: [['Expect', value]] as Header[], code: 'expectation-unknown' },
      { headers: [['Errand-Expect', value]] as Header[], code: 'expectation-unknown' },
    ],
  ),
  { headers: [['Expect', '100-continue, bogus']], code: 'expectation-unknown' },
  { headers: [['Expect', 'bogus, 100-continue']], code: 'expectation-unknown' },
  { headers: [['Expect', '200-ok, bogus']], code: 'expectation-unknown' },
  {
    headers: [
      ['Expect', '100-continue'],
      ['Errand-Expect', 'bogus'],
    ],
    code: 'expectation-unknown',
  },
  { headers: [['Expect', '200-ok, 201-created']], code: 'expectation-conflict' },
  { headers: [['Expect', '202-accepted, 200-ok']], code: 'expectation-conflict' },
  { headers: [['Expect', '100-continue, 200-ok, 204-no-content']], code: 'expectation-conflict' },
  {
    headers: [
      ['Expect', '200-ok'],
      ['Expect', '204-no-content'],
    ],
    code: 'expectation-conflict',
  },
  {
    headers: [
      ['Expect', '200-ok'],
      ['Errand-Expect', '202-accepted'],
    ],
    code: 'expectation-conflict',
  },
];

test('a demand that is unknown or contradicts itself is 417 before the body, stores nothing and closes', async () => {
  const served = await serve({ env });
  await inParallel(
    refusedAsks.flatMap(({ headers, code }) =>
      versions.map((version) => async () => {
        const awaits = /100-continue/.test(valuesOf(headers, 'expect')) && version === '1.1';
        const answer = await send(served.port, {
          method: 'POST',
          path: '/v1/jobs',
          version,
          headers: [['Content-Type', 'application/json'], ...headers],
          body: '{"type":"scripted"}',
          awaitsContinue: awaits,
        });
        const what = `HTTP/${version} ${JSON.stringify(headers).slice(0, 80)}`;
        assert.equal(answer.status, 417, what);
        assert.equal(problemOf(answer).code, code, what);
        assert.equal(answer.continued, false, what);
        assert.equal(answer.headers['errand-mode'], 'refused', what);
        assert.equal(answer.headers.connection, 'close', what);
        assert.equal(answer.closed, true, what);
      }),
    ),
  );
  assert.equal(served.jobs.stored, 0);
});

test('elsewhere any expectation but 100-continue is 417, and Errand-Mode says so', async () => {
  const served = await serve({ env });
  const id = served.jobs.add({ type: 'a' });
  const paths: [string, string][] = [
    ['GET', `/v1/jobs/${id}`],
    ['GET', `/v1/jobs/${id}/status`],
    ['HEAD', `/v1/jobs/${id}/result`],
    ['POST', `/v1/jobs/${id}/cancel`],
    ['POST', '/v1/leases'],
    ['POST', '/v1/leases/lse_x/heartbeat'],
    ['GET', '/health/live'],
    ['GET', '/metrics'],
    ['GET', '/openapi.json'],
    ['GET', '/nowhere'],
    ['DELETE', '/v1/jobs'],
  ];
  for (const [method, path] of paths) {
    for (const name of ['Expect', 'Errand-Expect']) {
      const refused = await send(served.port, { method, path, headers: [[name, '200-ok']] });
      assert.equal(refused.status, 417, `${method} ${path} ${name}`);
      assert.equal(refused.headers['errand-mode'], 'refused');
      assert.equal(refused.closed, true);
    }
    const read = await send(served.port, { method, path, headers: [['Expect', '100-continue']] });
    assert.notEqual(read.status, 417, `${method} ${path} 100-continue`);
  }
  assert.deepEqual(
    served.jobs.calls.filter((call) => call === 'cancel'),
    ['cancel'],
  );
});

const replayEnds: End[] = [
  ...ends.filter(({ row }) => !row.startsWith('wait ran out')),
  {
    row: 'still queued',
    script: () => {},
    cell: (column) =>
      column === 'soft'
        ? { ...accepted, state: 'queued' }
        : { ...ranOut('pending', 'queued')(column), location: `${record}/status` },
  },
  {
    row: 'running',
    // Another caller's job: it is not cancelled even where this caller asks for that.
    script: (jobs, id) => jobs.start(id),
    cell: ranOut('in_progress', 'running'),
  },
  { row: 'retrying', script: (jobs, id) => jobs.retry(id, 60_000), cell: ranOut('in_progress', 'retrying') },
];

for (const end of replayEnds) {
  test(`a replay on a job that is ${end.row} is answered from its present state`, async () => {
    const served = await serve({ env });
    const key: Header = ['Idempotency-Key', '"order-4711"'];
    const body = { type: 'a', on_timeout: 'cancel' };
    const first = await post(served.port, '/v1/jobs', body, [key]);
    const id = idIn(first.headers.link);
    end.script(served.jobs, id);
    const faults = await inParallel(
      asks.flatMap((ask) =>
        versions.map((version) => async () => {
          const answer = await send(served.port, {
            method: 'POST',
            path: '/v1/jobs',
            version,
            headers: [['Content-Type', 'application/json'], key, ...ask.headers],
            body: JSON.stringify(body),
          });
          try {
            assert.equal(answer.headers['idempotency-replayed'], 'true');
            assert.equal(idIn(answer.headers.link), id);
            assert.equal(answer.headers['errand-mode'], ask.mode);
            expectCell(served.jobs, answer, ask.column === 'async' ? accepted : end.cell(ask.column), ask);
            return null;
          } catch (error) {
            return `${JSON.stringify(ask.headers)} => ${answer.status}: ${(error as Error).message}`;
          }
        }),
      ),
    );
    assert.deepEqual(
      faults.filter((fault) => fault !== null),
      [],
    );
    assert.equal(served.jobs.stored, 1);
    assert.equal(served.jobs.jobs.get(id)?.facts.cancel_requested, false);
    assert.ok(!served.jobs.calls.some((call) => call.startsWith('cancel')));
  });
}

test('a replay on a job that is no longer kept is 410', async () => {
  const served = await serve({ env });
  const key: Header = ['Idempotency-Key', 'k'];
  const first = await post(served.port, '/v1/jobs', { type: 'a' }, [key]);
  served.jobs.jobs.clear();
  served.jobs.gone = 2_000;
  for (const headers of [[], [['Expect', '200-ok']], [['Prefer', 'wait=1']]] as Header[][]) {
    const answer = await post(served.port, '/v1/jobs', { type: 'a' }, [key, ...headers]);
    assert.equal(problemOf(answer).code, 'job-archived');
  }
  assert.equal(first.status, 202);
});

const drained: {
  row: string;
  headers: Header[];
  starts: boolean;
  status: number;
  executed?: unknown;
  state: string;
}[] = [
  { row: 'soft', headers: [['Prefer', 'wait=1']], starts: false, status: 202, state: 'queued' },
  { row: 'soft, running', headers: [['Prefer', 'wait=1']], starts: true, status: 202, state: 'running' },
  ...demands.flatMap((demand) => [
    {
      row: `${demand}, no key, not started`,
      headers: [['Expect', demand]] as Header[],
      starts: false,
      status: 503,
      executed: false,
      state: 'cancelled',
    },
    {
      row: `${demand}, no key, running`,
      headers: [['Expect', demand]] as Header[],
      starts: true,
      status: 503,
      executed: 'in_progress',
      state: 'running',
    },
    {
      row: `${demand}, key, not started`,
      headers: [
        ['Expect', demand],
        ['Idempotency-Key', demand],
      ] as Header[],
      starts: false,
      status: 503,
      executed: 'pending',
      state: 'queued',
    },
  ]),
];

test('a drain during the wait answers every caller by the row for it', async () => {
  const served = await serve({ env: { ERRAND_WAIT_DEFAULT_SECONDS: '20' } });
  served.jobs.scripts.set('runs', (id) => served.jobs.start(id));
  const waiting = Promise.all(
    drained.map(({ headers, starts }) =>
      post(served.port, '/v1/jobs', { type: starts ? 'runs' : 'never' }, headers),
    ),
  );
  while (served.jobs.waiters.count < drained.length) await new Promise((resolve) => setTimeout(resolve, 5));
  served.jobs.waiters.drain();
  for (const [i, answer] of (await waiting).entries()) {
    const row = drained[i] as (typeof drained)[number];
    const id = answer.headers['errand-job-id'] as string;
    assert.equal(answer.status, row.status, row.row);
    assert.equal(served.jobs.jobs.get(id)?.facts.state, row.state, row.row);
    const location = row.executed === false ? undefined : `/v1/jobs/${id}/status`;
    assert.equal(answer.headers.location, location, row.row);
    if (row.status === 202) continue;
    const problem = problemOf(answer);
    assert.equal(problem.code, 'draining', row.row);
    assert.deepEqual(problem.executed, row.executed, row.row);
    assert.equal(answer.headers['retry-after'], '1', row.row);
  }
});

test('a draining server refuses demands before anything is stored, and takes the rest', async () => {
  const served = await serve({ env });
  served.jobs.waiters.drain();
  const demand = await post(served.port, '/v1/jobs', { type: 'a' }, [['Expect', '200-ok']]);
  assert.equal(problemOf(demand).code, 'draining');
  assert.equal(demand.status, 503);
  assert.equal(demand.headers['retry-after'], '1');
  assert.equal(served.jobs.stored, 0);
  assert.equal((await post(served.port, '/v1/jobs', { type: 'a' }, [['Prefer', 'wait=1']])).status, 202);
  assert.equal((await post(served.port, '/v1/jobs', { type: 'a' })).status, 202);
  assert.equal(served.jobs.stored, 2);
});

test('a demand for which there is no room to wait is 503 before anything is stored; a wish gets its 202', async () => {
  const { FakeJobs } = await import('../support/fake-actions.ts');
  const served = await serve({ env, jobs: new FakeJobs(1) });
  const first = post(served.port, '/v1/jobs', { type: 'a' }, [['Prefer', 'wait=1']]);
  while (served.jobs.waiters.count === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  const demand = await post(served.port, '/v1/jobs', { type: 'a' }, [['Expect', '201-created']]);
  assert.equal(problemOf(demand).code, 'sync-capacity');
  assert.equal(demand.status, 503);
  assert.ok(Number(demand.headers['retry-after']) >= 1);
  assert.equal(served.jobs.stored, 1);
  const wish = await post(served.port, '/v1/jobs', { type: 'a' }, [['Prefer', 'wait=1']]);
  assert.equal(wish.status, 202);
  assert.equal((await first).status, 202);
});

test('a demand for a job that is due after the wait is refused up front; nothing is stored', async () => {
  const served = await serve({ env });
  const bodies = [
    { type: 'a', delay_seconds: 0.5 },
    { type: 'a', run_at: new Date(Date.now() + 5_000).toISOString() },
    { type: 'a', run_at: '9999-12-31T23:59:59Z' },
  ];
  for (const body of bodies) {
    for (const demand of demands) {
      const answer = await post(served.port, '/v1/jobs', body, [['Expect', demand]]);
      const problem = problemOf(answer);
      assert.equal(answer.status, 417);
      assert.equal(problem.code, 'expectation-impossible');
      assert.equal(problem.reason, 'run_at_beyond_wait');
      assert.equal(answer.headers['errand-mode'], 'refused');
    }
    assert.equal((await post(served.port, '/v1/jobs', body, [['Prefer', 'wait=1']])).status, 202);
    assert.equal((await post(served.port, '/v1/jobs', body, [['Expect', '202-accepted']])).status, 202);
  }
  assert.equal(served.jobs.stored, 2 * bodies.length);
});

test('a demand for a job that is due within the wait, or was due, is not refused', async () => {
  const served = await serve({ env });
  served.jobs.scripts.set('quick', (id) => setTimeout(() => served.jobs.succeed(id), 150));
  for (const body of [
    { type: 'quick', delay_seconds: 0.1 },
    { type: 'quick', run_at: '1970-01-01T00:00:00Z' },
  ]) {
    const answer = await post(served.port, '/v1/jobs', body, [['Expect', '204-no-content']]);
    assert.equal(answer.status, 204);
  }
});

test('a failure to read the job after it was stored is never told as if nothing was stored', async () => {
  const { Problem } = await import('../../src/domain/problem.ts');
  const served = await serve({ env });
  served.jobs.scripts.set('fails', () => {
    served.jobs.fault = new Problem('database-unavailable', {
      detail: 'the database did not answer in time',
    });
  });
  const answer = await post(served.port, '/v1/jobs', { type: 'fails' }, [['Expect', '200-ok']]);
  const problem = problemOf(answer);
  assert.equal(answer.status, 503);
  assert.equal(problem.code, 'outcome-unknown');
  assert.match(problem.detail as string, /is stored/);
  assert.equal(answer.headers.location, `/v1/jobs/${answer.headers['errand-job-id']}/status`);
});

function valuesOf(headers: readonly Header[], name: string): string {
  return headers
    .filter(([one]) => one.toLowerCase() === name)
    .map(([, value]) => value)
    .join(', ');
}

function idIn(link: string | undefined): string {
  return /\/v1\/jobs\/(\d+)\/status/.exec(link ?? '')?.[1] ?? 'no id';
}
