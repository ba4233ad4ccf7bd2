// Events are derived from facts: their order, what they say, and that a reader who is cut anywhere loses and doubles nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { NamedFacts } from '../../src/domain/record.ts';
import {
  attemptsOf,
  beginning,
  epochOf,
  eventsAfter,
  type History,
  type Mark,
  nameOf,
  type OutcomeStatus,
  type Position,
  positionOf,
  type StartFacts,
} from '../../src/domain/timeline.ts';

const at = (ms: number) => new Date(Date.UTC(2026, 0, 1) + ms);

const nothing: History = {
  id: '7',
  created_at: at(0),
  run_at: null,
  scheduled: false,
  blocked: false,
  terminal: false,
  starts: [],
  more: false,
  progress: null,
  checkpoint: null,
};

function aStart(epoch: number, over: Partial<StartFacts> = {}): StartFacts {
  return {
    epoch,
    attempt: epoch,
    status: null,
    worker: 'w',
    started_at: at(epoch * 10),
    finished_at: over.status === undefined ? null : at(epoch * 10 + 5),
    next_at: null,
    class: null,
    source: null,
    http_status: null,
    error: null,
    fingerprint: null,
    created_uri: null,
    has_result: false,
    ...over,
  };
}

const told = (history: Partial<History>, after: Position = beginning) =>
  eventsAfter({ ...nothing, ...history }, after).map(({ id, event, data }) => ({
    id,
    event,
    ...JSON.parse(data),
  }));

test('a job begins queued, or scheduled where it was put off', () => {
  assert.deepEqual(told({}), [
    { id: '1', event: 'state', state: 'queued', attempt: 0, epoch: 0, at: '2026-01-01T00:00:00.000Z' },
  ]);
  const [created] = told({ scheduled: true, run_at: at(60_000) });
  assert.equal(created.state, 'scheduled');
  assert.equal(created.next_attempt_at, '2026-01-01T00:01:00.000Z');
});

const failed = { class: 'retryable', source: 'worker', error: 'no', http_status: null } as const;
const ends: [OutcomeStatus, Partial<StartFacts>, string, string, number][] = [
  ['succeeded', {}, 'done', 'succeeded', 1],
  ['dead', failed, 'done', 'dead', 1],
  ['cancelled', {}, 'done', 'cancelled', 1],
  ['expired', {}, 'done', 'expired', 1],
  ['retry', { ...failed, next_at: at(9_000) }, 'state', 'retrying', 1],
  ['retry', { ...failed, next_at: at(15) }, 'state', 'queued', 1],
  ['lost', { class: 'lost', source: 'errand', next_at: at(15) }, 'state', 'queued', 1],
  ['released', { next_at: at(15) }, 'state', 'queued', 0],
  ['released', { next_at: at(9_000) }, 'state', 'scheduled', 0],
  ['released', { attempt: 2, next_at: at(9_000) }, 'state', 'retrying', 1],
  ['snoozed', { attempt: 2, next_at: at(9_000) }, 'state', 'retrying', 1],
];

for (const [status, over, event, state, attempt] of ends) {
  test(`a start that ends ${status} leaves the job ${state} with ${attempt} attempts counted`, () => {
    const [, start, end] = told({ starts: [aStart(1, { status, ...over })] });
    assert.deepEqual([start.id, start.state, start.worker], ['2', 'running', 'w']);
    assert.deepEqual([end.id, end.event, end.state, end.attempt], ['3', event, state, attempt]);
    assert.equal('next_attempt_at' in end, state === 'retrying' || state === 'scheduled');
    if (event === 'done') assert.ok('error' in end && 'result' in end && 'created' in end);
    if (over.class !== undefined) assert.equal(end.error.class, over.class);
  });
}

test('done names the result and what was created; an epoch that never started has only its end', () => {
  const [, , done] = told({
    starts: [aStart(1, { status: 'succeeded', has_result: true, created_uri: '/x' })],
  });
  assert.equal(done.result, '/v1/jobs/7/result');
  assert.equal(done.created, '/x');
  const ids = told({ starts: [aStart(1, { status: 'cancelled', started_at: null, attempt: 0 })] }).map(
    ({ id }) => id,
  );
  assert.deepEqual(ids, ['1', '3']);
});

test('progress stands between the start that wrote it and the end of that, as it was sent', () => {
  const progress: Mark = { epoch: 1, seq: 4, at: at(12), value: '{"n" : 9007199254740993}' };
  const checkpoint: Mark = { epoch: 2, seq: 5, at: at(22), value: '[1]' };
  const history = { ...nothing, starts: [aStart(1, { status: 'lost' }), aStart(2)], progress, checkpoint };
  const events = eventsAfter(history, beginning);
  assert.deepEqual(
    events.map(({ id, event }) => `${id} ${event}`),
    ['1 state', '2 state', '2.4 progress', '3 state', '4 state', '4.5 checkpoint'],
  );
  assert.ok(events[2]?.data.endsWith(',"progress":{"n" : 9007199254740993}}'));
});

test('what can be no id of an event is told apart from one that is just not there', () => {
  for (const id of ['0', '1', '2', '3', '2.1', '999999999', '4.999999999']) {
    assert.equal(nameOf(positionOf(id) as Position), id);
  }
  for (const id of [
    '',
    '01',
    '-1',
    '1.0',
    '1.',
    '.1',
    'a',
    '1 ',
    '4294967296',
    '12345678901',
    '2.1.1',
    '٢',
  ]) {
    assert.equal(positionOf(id), null, id);
  }
});

test('attempts are the starts newest first, with the one under way', () => {
  const facts = { state: 'running', epoch: 3, attempt: 2, worker: 'w', started_at: at(30) } as NamedFacts;
  const past = [aStart(2, { status: 'released', attempt: 2 }), aStart(1, { status: 'retry', ...failed })];
  const attempts = attemptsOf(facts, past);
  assert.deepEqual(
    attempts.map(({ epoch, outcome, run_ms, class: cause }) => [epoch, outcome, run_ms, cause]),
    [
      [3, null, null, null],
      [2, 'released', 5, null],
      [1, 'retry', 5, 'retryable'],
    ],
  );
  assert.equal(attemptsOf({ ...facts, epoch: 2 } as NamedFacts, past).length, 2, 'it ended meanwhile');
});

// A job as the database keeps it: what is read of it is a page from some start on, with the latest marks only.
interface Life {
  starts: StartFacts[];
  marks: { kind: 'progress' | 'checkpoint'; mark: Mark }[];
}

const again: OutcomeStatus[] = ['retry', 'lost', 'released'];
const over: OutcomeStatus[] = ['succeeded', 'dead', 'cancelled', 'expired'];

const someLife: fc.Arbitrary<Life> = fc
  .record({
    ends: fc.array(fc.constantFrom(...again), { maxLength: 12 }),
    last: fc.option(fc.record({ status: fc.constantFrom(...over), started: fc.boolean() })),
    writes: fc.array(fc.tuple(fc.nat(12), fc.constantFrom('progress' as const, 'checkpoint' as const)), {
      maxLength: 10,
    }),
  })
  .map(({ ends, last, writes }) => {
    const starts = ends.map((status, i) => aStart(i + 1, { status }));
    const epoch = starts.length + 1;
    if (last !== null) {
      starts.push(aStart(epoch, { status: last.status, ...(last.started ? {} : { started_at: null }) }));
    }
    const sorted = writes
      .filter(([n]) => n < starts.length && starts[n]?.started_at)
      .sort(([a], [b]) => a - b);
    const marks = sorted.map(([n, kind], i) => ({
      kind,
      mark: { epoch: n + 1, seq: i + 1, at: at((n + 1) * 10 + 2), value: String(i) },
    }));
    return { starts, marks };
  });

/** What the store answers about a life: `page` starts from `since` on, and one more to know where the page ends. */
function readOf({ starts, marks }: Life, since: number, page: number): History {
  const read = starts.filter(({ epoch }) => epoch >= since).slice(0, page + 1);
  const latest = (kind: string) => marks.findLast((one) => one.kind === kind)?.mark ?? null;
  const terminal = over.includes(starts.at(-1)?.status as OutcomeStatus);
  const marked = { progress: latest('progress'), checkpoint: latest('checkpoint') };
  return { ...nothing, terminal, starts: read, more: read.length > page, ...marked };
}

function idsAfter(life: Life, from: Position, page: number): string[] {
  const ids: string[] = [];
  let after = from;
  for (;;) {
    const history = readOf(life, epochOf(after), page);
    const events = eventsAfter(history, after);
    ids.push(...events.map(({ id }) => id));
    after = positionOf(ids.at(-1) ?? nameOf(from)) as Position;
    if (!history.more) return ids;
    assert.ok(events.length > 0, 'a page that is not the last one leads on');
  }
}

test('for any history, cut anywhere and read in pages of any size, the pieces are each event once, in order', () => {
  fc.assert(
    fc.property(
      someLife,
      fc.array(fc.nat(40), { maxLength: 8 }),
      // A page holds the start that was seen last, so it must hold another one to lead on.
      fc.integer({ min: 2, max: 5 }),
      (life, cuts, page) => {
        const whole = eventsAfter(readOf(life, 0, 1_000), beginning).map(({ id }) => id);
        assert.equal(new Set(whole).size, whole.length);
        const pieces: string[] = [];
        for (const taken of [...cuts, Number.POSITIVE_INFINITY]) {
          const from = positionOf(pieces.at(-1) ?? '0') as Position;
          pieces.push(...idsAfter(life, from, page).slice(0, taken));
        }
        assert.deepEqual(pieces, whole);
      },
    ),
    { numRuns: 500 },
  );
});

test('a reader who looks again and again while a job lives gets everything that was not superseded, once, in order', () => {
  fc.assert(
    fc.property(someLife, fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }), (life, looks) => {
      const seen: string[] = [];
      const moments = momentsOf(life);
      moments.forEach((moment, i) => {
        if (looks[i] || i === moments.length - 1) {
          const from = positionOf(seen.at(-1) ?? '0') as Position;
          seen.push(...eventsAfter(readOf(moment, epochOf(from), 100), from).map(({ id }) => id));
        }
      });
      const whole = eventsAfter(readOf(life, 0, 100), beginning).map(({ id }) => id);
      assert.equal(new Set(seen).size, seen.length, `doubled: ${seen}`);
      assert.deepEqual(
        whole.filter((id) => !seen.includes(id)),
        [],
      );
      const order = seen.map((id) => positionOf(id) as Position);
      order.slice(1).forEach((one, i) => {
        const before = order[i] as Position;
        assert.ok(one.step > before.step || (one.step === before.step && one.seq > before.seq), `${seen}`);
      });
    }),
    { numRuns: 500 },
  );
});

/** The same life at each moment at which something was written. */
function momentsOf({ starts, marks }: Life): Life[] {
  const moments: Life[] = [{ starts: [], marks: [] }];
  const written: Life['marks'] = [];
  starts.forEach((start, i) => {
    const before = starts.slice(0, i);
    if (start.started_at !== null) {
      const underWay = [...before, { ...start, status: null, finished_at: null }];
      moments.push({ starts: underWay, marks: [...written] });
      for (const mark of marks.filter((one) => one.mark.epoch === start.epoch)) {
        written.push(mark);
        moments.push({ starts: underWay, marks: [...written] });
      }
    }
    moments.push({ starts: [...before, start], marks: [...written] });
  });
  return moments;
}
