// Why this room exists: the tables of docs/contract.md as data, row by row, so that a reader can hold them against
// the page, and so that fresh jobs and replays are asked the same.
// Invariant: `asks` is the table Modes, one line per way to write a request; the rows of Outcomes have one entry each.
// Next room: test/http/decision-tables.test.ts, which asks everything.
import assert from 'node:assert/strict';
import type { FakeJobs } from './fake-actions.ts';
import { type Header, problemOf, type WireAnswer } from './serve.ts';

/** A demand for an answer now. */
export type Demand = '200-ok' | '201-created' | '204-no-content';

/** A column of the table Outcomes. */
export type Column = Demand | 'soft' | 'async';

/** A way to ask, and what is to be understood of it. */
export interface Ask {
  headers: readonly Header[];
  column: Column;
  /** `Errand-Mode`. */
  mode: string;
  /** `Preference-Applied` on a 202, and on the outcome of the job. */
  applied: string | undefined;
  appliedToOutcome: string | undefined;
  minimal: boolean;
}

/** A cell of the table Outcomes; `{id}` stands for the job. */
export interface Cell {
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

/** A row of the table Outcomes. */
export interface End {
  row: string;
  /** What happens to the job. */
  script: (jobs: FakeJobs, id: string) => void;
  /** Members of the submit besides the type. */
  body?: Record<string, unknown>;
  cell: (column: Column) => Cell;
}

/** The settings the tables are written for: waits are 0.3 s by default and 0.5 s at most. */
export const shortWaits = { ERRAND_WAIT_DEFAULT_SECONDS: '0.3', ERRAND_WAIT_CAP_SECONDS: '0.5' };

export const demands: readonly Demand[] = ['200-ok', '201-created', '204-no-content'];

/** Header lines written as `Name: value | Name: value`. */
export function lines(text: string): Header[] {
  if (text === '') return [];
  return text.split(' | ').map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
  });
}

const mixed = (demand: Demand) => demand.replace(/-./, (letters) => letters.toUpperCase());

const demanding = (demand: Demand): Ask[] => {
  const ask = (text: string, wait: string, applied?: string): Ask => ({
    headers: lines(text),
    column: demand,
    mode: `sync;expect="${demand}";wait=${wait}`,
    applied: undefined,
    appliedToOutcome: applied,
    minimal: false,
  });
  return [
    ask(`Expect: ${demand}`, '0.3'),
    ask(`Expect: ${mixed(demand)}`, '0.3'),
    ask(`EXPECT: ${demand.toUpperCase()}`, '0.3'),
    ask(`Expect: 100-continue, ${demand}`, '0.3'),
    ask(`Expect: ${mixed(demand)}, 100-Continue`, '0.3'),
    ask(`Expect: 100-continue | Expect: ${demand}`, '0.3'),
    ask(`Expect: ${demand} | Expect: 100-continue`, '0.3'),
    ask(`Expect: ${demand} | Expect: ${mixed(demand)}`, '0.3'),
    ask(`Errand-Expect: ${demand}`, '0.3'),
    ask(`Errand-Expect: ,${mixed(demand)} ,`, '0.3'),
    ask(`Expect: ${demand} | Errand-Expect: ${mixed(demand)}`, '0.3'),
    ask(`Expect: 100-continue | Errand-Expect: ${demand}`, '0.3'),
    ask(`Expect: ${demand} | Prefer: respond-async, return=minimal`, '0.3'),
    ask(`Expect: ${demand} | Prefer: wait=0`, '0.3'),
    ask(`Expect: ${demand} | Prefer: wait=soon`, '0.3'),
    ask(`Expect: ${demand} | Prefer: wait=7`, '0.5', 'wait=0.5'),
    ask(`Errand-Expect: ${demand} | Prefer: respond-async, wait=7`, '0.5', 'wait=0.5'),
  ];
};

const wishing = (text: string, applied: string, minimal = false): Ask => ({
  headers: lines(text),
  column: 'soft',
  mode: 'soft;wait=0.5',
  applied: minimal ? `${applied}, return=minimal` : applied,
  appliedToOutcome: applied,
  minimal,
});

const leaving = (text: string, applied?: string): Ask => ({
  headers: lines(text),
  column: 'async',
  mode: /202/.test(text) ? 'async;expect="202-accepted"' : 'async;expect=none',
  applied,
  appliedToOutcome: undefined,
  minimal: applied?.includes('minimal') ?? false,
});

/** Modes: rows 5, 6, then 4 and 7. */
export const asks: readonly Ask[] = [
  ...demands.flatMap(demanding),
  wishing('Prefer: wait=1', 'wait=0.5'),
  wishing('prefer: WAIT="3"', 'wait=0.5'),
  wishing('Prefer: wait=99999999999', 'wait=0.5'),
  wishing('Prefer: respond-async, wait=1', 'respond-async, wait=0.5'),
  wishing('Prefer: wait=1 | Prefer: respond-async', 'respond-async, wait=0.5'),
  wishing('Prefer: x=y; z, wait=1;u=v, wait=0', 'wait=0.5'),
  wishing('Expect: 100-continue | Prefer: wait=1', 'wait=0.5'),
  wishing('Errand-Expect: 100-continue | Prefer: wait=1', 'wait=0.5'),
  wishing('Prefer: return=minimal, wait=1', 'wait=0.5', true),
  leaving(''),
  leaving('Expect:'),
  leaving('Expect: 100-continue'),
  leaving('Expect: 100-CONTINUE,'),
  leaving('Errand-Expect: 100-continue'),
  leaving('Prefer: respond-async', 'respond-async'),
  leaving('Prefer: wait=0'),
  leaving('Prefer: wait=-1'),
  leaving('Prefer: wait=1e9'),
  leaving('Prefer: wait=abc, ;;;=, "'),
  leaving('Prefer: return=minimal', 'return=minimal'),
  leaving('Prefer: return=representation'),
  leaving('Expect: 202-accepted'),
  leaving('Expect: 202-Accepted'),
  leaving('Expect: 100-continue, 202-Accepted'),
  leaving('Errand-Expect: 202-ACCEPTED'),
  leaving('Expect: 202-accepted | Prefer: wait=5, respond-async', 'respond-async'),
];

const unknown = ['bogus', '200', '200-ok;x=1', '200-ok;wait=5', '"200-ok"', '100', 'x'.repeat(9_000), 'ä'];

/** Modes, rows 2 and 3: what is refused before the body is read. */
export const refusedAsks: readonly { headers: readonly Header[]; code: string }[] = [
  ...[
    ...unknown.map((value) => `Expect: ${value}`),
    ...unknown.map((value) => `Errand-Expect: ${value}`),
    'Expect: 100-continue, bogus',
    'Expect: bogus, 100-continue',
    'Expect: 200-ok, bogus',
    'Expect: 100-continue | Errand-Expect: bogus',
  ].map((text) => ({ headers: lines(text), code: 'expectation-unknown' })),
  ...[
    'Expect: 200-ok, 201-created',
    'Expect: 202-accepted, 200-ok',
    'Expect: 100-continue, 200-ok, 204-no-content',
    'Expect: 200-ok | Expect: 204-no-content',
    'Expect: 200-ok | Errand-Expect: 202-accepted',
  ].map((text) => ({ headers: lines(text), code: 'expectation-conflict' })),
];

/** The result the succeeded jobs of the table have. */
export const result = '{"n":9007199254740993, "e":1e400}';

const uri = 'https://app.example/things/7';
const record = '/v1/jobs/{id}';
const resultPath = `${record}/result`;

/** Every cell of the column ASYNC. */
export const accepted: Cell = {
  status: 202,
  location: `${record}/status`,
  contentLocation: record,
  body: 'accepted',
};

const failed =
  (status: number, code = 'job-failed') =>
  (): Cell => ({ status, body: 'problem', code });

const ranOut =
  (executed: unknown, state: string, softState = state) =>
  (column: Column): Cell => {
    if (column === 'soft') return { ...accepted, state: softState };
    const location = executed === false ? undefined : `${record}/status`;
    return { status: 417, body: 'problem', code: 'expectation-timeout', location, executed, state };
  };

/** Outcomes: rows that are the same for a job this request made and for one that was there. */
export const finished: readonly End[] = [
  {
    row: 'succeeded with result',
    script: (jobs, id) => jobs.succeed(id, result),
    cell: (column) => {
      if (column === '204-no-content') return { status: 204, contentLocation: resultPath, body: 'none' };
      if (column !== '201-created') return { status: 200, contentLocation: resultPath, body: 'result' };
      return { status: 201, location: resultPath, contentLocation: resultPath, body: 'result' };
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
      return { status: 201, location: uri, contentLocation: resultPath, body: 'result' };
    },
  },
  {
    row: 'succeeded, no content',
    script: (jobs, id) => jobs.succeed(id),
    cell: (column) => {
      if (column === '200-ok') return { status: 200, contentLocation: record, body: 'record' };
      if (column !== '201-created') return { status: 204, body: 'none' };
      return { status: 201, location: record, contentLocation: record, body: 'record' };
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
];

/** Outcomes: what a wait that runs out means for a job this request made. */
export const ranOutOnOwn: readonly End[] = [
  { row: 'queued', script: () => {}, cell: ranOut(false, 'cancelled', 'queued') },
  {
    row: 'scheduled',
    body: { delay_seconds: 0.1 },
    script: () => {},
    cell: ranOut(false, 'cancelled', 'scheduled'),
  },
  { row: 'running', script: (jobs, id) => jobs.start(id), cell: ranOut('in_progress', 'running') },
  {
    row: 'running, on_timeout cancel',
    body: { on_timeout: 'cancel' },
    script: (jobs, id) => jobs.start(id),
    cell: ranOut('in_progress', 'running'),
  },
  {
    row: 'retrying',
    script: (jobs, id) => jobs.retry(id, 60_000),
    cell: ranOut('in_progress', 'retrying'),
  },
  {
    row: 'retrying, on_timeout cancel',
    body: { on_timeout: 'cancel' },
    script: (jobs, id) => jobs.retry(id, 60_000),
    cell: (column) => ranOut('in_progress', column === 'soft' ? 'retrying' : 'cancelled')(column),
  },
];

/** Outcomes: the same for a job that was there, which another caller may own: it is never cancelled. */
export const ranOutOnAnothers: readonly End[] = [
  { row: 'queued', script: () => {}, cell: ranOut('pending', 'queued') },
  { row: 'running', script: (jobs, id) => jobs.start(id), cell: ranOut('in_progress', 'running') },
  {
    row: 'retrying',
    script: (jobs, id) => jobs.retry(id, 60_000),
    cell: ranOut('in_progress', 'retrying'),
  },
];

/** Fails unless an answer is what its cell says. */
export function expectCell(jobs: FakeJobs, answer: WireAnswer, ask: Ask, end: End): void {
  const cell = ask.column === 'async' ? accepted : end.cell(ask.column);
  const { headers } = answer;
  assert.equal(answer.status, cell.status);
  assert.equal(headers['errand-mode'], ask.mode);
  const id = idIn(headers.link);
  const at = (path: string | undefined) => path?.replace('{id}', id);
  assert.equal(headers.link, `</v1/jobs/${id}/status>; rel="status"`);
  assert.equal(headers['errand-job-id'], ask.column === 'async' ? undefined : id, 'errand-job-id');
  assert.equal(headers.location, at(cell.location), 'location');
  assert.equal(headers['content-location'], at(cell.contentLocation), 'content-location');
  const applied = cell.body === 'accepted' ? ask.applied : ask.appliedToOutcome;
  assert.equal(headers['preference-applied'], applied, 'preference-applied');
  const { facts } = jobs.jobs.get(id) as NonNullable<ReturnType<typeof jobs.jobs.get>>;
  if (cell.state !== undefined) assert.equal(facts.state, cell.state, 'state');
  expectBody(answer, cell, ask, id);
}

function expectBody(answer: WireAnswer, cell: Cell, ask: Ask, id: string): void {
  const { body, headers } = answer;
  if (cell.body === 'none' || (cell.body === 'accepted' && ask.minimal)) {
    assert.equal(body, '');
  } else if (cell.body === 'problem') {
    const problem = problemOf(answer);
    assert.equal(problem.code, cell.code);
    assert.equal(problem.type, `/problems/${cell.code}`);
    assert.equal(problem.status, cell.status);
    assert.equal((problem.job as { id: string }).id, id);
    assert.deepEqual(problem.executed, cell.executed, 'executed');
    if (cell.executed !== undefined) assert.ok((problem.waited_ms as number) >= 300, 'waited_ms');
  } else {
    assert.equal(headers['content-type'], 'application/json');
    if (cell.body === 'result') assert.equal(body, result);
    else assert.equal(JSON.parse(body).id, id);
  }
  if (cell.body === 'accepted') assert.match(headers.etag ?? '', /^"[^"]+"$/, 'etag');
}

/** The id of the job an answer is about. */
export function idIn(link: string | undefined): string {
  return /\/v1\/jobs\/(\d+)\/status/.exec(link ?? '')?.[1] ?? 'no id';
}
