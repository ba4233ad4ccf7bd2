// Proves the table of docs/contract.md, Modes, row by row, and that no header can break or slow it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type NegotiationHeaders,
  negotiate,
  refusal,
  refusalWhereOnly,
} from '../../src/domain/expectation.ts';
import { Problem } from '../../src/domain/problem.ts';

const limits = { defaultWaitSeconds: 10, waitCapSeconds: 25 };
const four = ['202-accepted', '200-ok', '201-created', '204-no-content'] as const;

const mode = (headers: NegotiationHeaders) => negotiate(headers, limits);
const prefer = (text: string) => {
  const { errandMode, preferenceApplied } = mode({ prefer: text });
  return [errandMode, preferenceApplied];
};
const slugOf = (headers: NegotiationHeaders) => {
  const answer = mode(headers);
  return answer.kind === 'refused' ? answer.problem.slug : answer.kind;
};

test('a request without any of the headers is asynchronous and costs no object', () => {
  const answer = mode({});
  assert.equal(answer, mode({ expect: undefined, errandExpect: undefined, prefer: undefined }));
  assert.equal(answer.kind, 'async');
  assert.equal(answer.errandMode, 'async;expect=none');
  assert.equal(answer.preferenceApplied, null);
});

test('100-continue is dropped in any case, place and company', () => {
  for (const expect of ['100-continue', '100-Continue', ' 100-CONTINUE ,', '', ' , ,']) {
    assert.equal(mode({ expect }).errandMode, 'async;expect=none', expect);
  }
  for (const expect of ['100-continue, 200-ok', '200-OK,100-continue', ',200-Ok,,', '200-ok, 200-OK']) {
    assert.equal(mode({ expect }).errandMode, 'sync;expect="200-ok";wait=10', expect);
  }
});

test('Errand-Expect is an exact twin of Expect', () => {
  for (const value of [...four, '202-Accepted', 'bogus', '200-ok, 201-created', '100-continue']) {
    const one = mode({ expect: value });
    const twin = mode({ errandExpect: value });
    assert.equal(one.kind, twin.kind, value);
    assert.equal(one.errandMode, twin.errandMode, value);
    assert.equal(mode({ expect: value, errandExpect: value }).errandMode, one.errandMode, value);
  }
});

test('answers 417 expectation-unknown to anything but the four', () => {
  const unknown = [
    'bogus',
    '200',
    '200-ok;x=1',
    '200-ok;wait=5',
    '"200-ok"',
    'ok 200',
    '200-ok, bogus',
    '203-x',
  ];
  for (const expect of unknown) {
    assert.equal(slugOf({ expect }), 'expectation-unknown', expect);
    assert.equal(slugOf({ errandExpect: expect }), 'expectation-unknown', expect);
    assert.equal(mode({ expect }).errandMode, 'refused');
  }
  assert.equal(slugOf({ expect: '200-ok', errandExpect: 'bogus' }), 'expectation-unknown');
});

test('an unknown member is refused as unknown even beside a contradiction', () => {
  assert.equal(slugOf({ expect: '200-ok, 201-created, bogus' }), 'expectation-unknown');
});

test('answers 417 expectation-conflict to two different members, in one header or in both', () => {
  assert.equal(slugOf({ expect: '202-accepted, 200-ok' }), 'expectation-conflict');
  assert.equal(slugOf({ expect: '200-ok', errandExpect: '201-created' }), 'expectation-conflict');
  assert.equal(
    slugOf({ expect: '100-continue, 204-no-content', errandExpect: '202-accepted' }),
    'expectation-conflict',
  );
});

test('a refusal repeats a short honest name and nothing else', () => {
  const named = mode({ expect: 'nonempty-response' });
  assert.ok(named.kind === 'refused' && named.problem.detail.includes('"nonempty-response"'));
  for (const expect of ['x'.repeat(41), 'a b', 'a"b', 'é', 'a\u001b[31m']) {
    const answer = mode({ expect });
    assert.ok(answer.kind === 'refused');
    assert.ok(!answer.problem.detail.includes(expect), expect);
  }
});

test('202-accepted is asynchronous and drops the wish to wait', () => {
  const answer = mode({ expect: '202-accepted', prefer: 'wait=5' });
  assert.deepEqual(
    [answer.kind, answer.errandMode, answer.preferenceApplied],
    ['async', 'async;expect="202-accepted"', null],
  );
  assert.equal(
    mode({ expect: '202-accepted', prefer: 'respond-async, wait=5' }).preferenceApplied,
    'respond-async',
  );
});

test('a demand for the outcome waits as wished, by default 10 s, at most 25 s', () => {
  const wait = (value: string | undefined) => {
    const answer = mode({ expect: '201-created', prefer: value });
    assert.ok(answer.kind === 'sync' && answer.expectation === '201-created');
    return [answer.wait_seconds, answer.errandMode, answer.preferenceApplied];
  };
  assert.deepEqual(wait(undefined), [10, 'sync;expect="201-created";wait=10', null]);
  assert.deepEqual(wait('wait=3'), [3, 'sync;expect="201-created";wait=3', 'wait=3']);
  assert.deepEqual(wait('wait=90'), [25, 'sync;expect="201-created";wait=25', 'wait=25']);
  assert.deepEqual(wait('wait=0'), [10, 'sync;expect="201-created";wait=10', null]);
  assert.deepEqual(wait('respond-async, wait=3, return=minimal'), [
    3,
    'sync;expect="201-created";wait=3',
    'wait=3',
  ]);
});

test('the default wait never exceeds the cap', () => {
  const answer = negotiate({ expect: '200-ok' }, { defaultWaitSeconds: 60, waitCapSeconds: 25 });
  assert.equal(answer.errandMode, 'sync;expect="200-ok";wait=25');
});

test('a wish to wait is soft, with or without respond-async', () => {
  assert.deepEqual(prefer('wait=5'), ['soft;wait=5', 'wait=5']);
  assert.deepEqual(prefer('respond-async, wait=5'), ['soft;wait=5', 'respond-async, wait=5']);
  assert.deepEqual(prefer('wait=5, respond-async'), ['soft;wait=5', 'respond-async, wait=5']);
});

test('a clamped wait is reported as applied', () => {
  for (const huge of ['26', '1000000000', '9'.repeat(400)]) {
    assert.deepEqual(prefer(`wait=${huge}`), ['soft;wait=25', 'wait=25'], huge);
  }
});

test('a wait that is zero, negative or no whole number is ignored', () => {
  for (const wait of ['0', '-1', '1.5', 'abc', '5s', '0x5', '1e3', '', '"', '+5', '5 6']) {
    assert.deepEqual(prefer(`wait=${wait}`), ['async;expect=none', null], wait);
  }
});

test('preferences are read as RFC 7240 writes them', () => {
  assert.deepEqual(prefer('WAIT = "5" ; foo=bar'), ['soft;wait=5', 'wait=5']);
  assert.deepEqual(prefer('wait=5;x="a,b", respond-async'), ['soft;wait=5', 'respond-async, wait=5']);
  assert.deepEqual(prefer('foo="a, wait=9, \\" wait=8", wait="\\5"'), ['soft;wait=5', 'wait=5']);
  assert.deepEqual(prefer('respond-async=""'), ['async;expect=none', 'respond-async']);
  assert.deepEqual(prefer('handling=lenient, depth-noroot'), ['async;expect=none', null]);
});

test('of a preference sent twice the first counts', () => {
  assert.deepEqual(prefer('wait=5, wait=9'), ['soft;wait=5', 'wait=5']);
  assert.deepEqual(prefer('wait=abc, wait=9'), ['async;expect=none', null]);
  assert.equal(mode({ prefer: 'return=representation, return=minimal' }).returnMinimal, false);
});

test('a malformed member is ignored and its neighbours are not', () => {
  assert.deepEqual(prefer('=5, wait=4'), ['soft;wait=4', 'wait=4']);
  assert.deepEqual(prefer('wait=5=6, wait=4'), ['soft;wait=4', 'wait=4']);
  assert.deepEqual(prefer('foo="unclosed, wait=4'), ['async;expect=none', null]);
});

test('return=minimal is honoured on a 202 and never claimed on an outcome', () => {
  const plain = mode({ prefer: 'return=minimal' });
  assert.deepEqual([plain.returnMinimal, plain.preferenceApplied], [true, 'return=minimal']);
  const soft = mode({ prefer: 'return=minimal, wait=5' });
  assert.deepEqual([soft.returnMinimal, soft.preferenceApplied], [true, 'wait=5, return=minimal']);
  assert.equal(soft.preferenceAppliedToOutcome, 'wait=5');
  const sync = mode({ expect: '200-ok', prefer: 'return=minimal' });
  assert.deepEqual([sync.returnMinimal, sync.preferenceApplied], [false, null]);
});

const anyText = fc
  .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 200 })
  .map((units) => String.fromCharCode(...units));

test('no Prefer is ever an error', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      assert.notEqual(mode({ prefer: text }).kind, 'refused');
    }),
  );
});

test('the early check refuses exactly what the full one refuses', () => {
  const member = fc.constantFrom(...four, '100-continue', 'bogus', '', '200-OK', ' 201-created ');
  const header = fc.option(
    fc.array(member, { maxLength: 4 }).map((members) => members.join(',')),
    { nil: undefined },
  );
  fc.assert(
    fc.property(header, header, (expect, errandExpect) => {
      const answer = mode({ expect, errandExpect });
      const early = refusal(expect, errandExpect);
      assert.equal(early?.slug ?? null, answer.kind === 'refused' ? answer.problem.slug : null);
    }),
  );
});

test('a path that does not negotiate takes no expectation, a batch only 202-accepted', () => {
  assert.equal(refusalWhereOnly([], undefined), null);
  assert.equal(refusalWhereOnly([], '100-continue'), null);
  assert.equal(refusalWhereOnly([], '200-ok')?.status, 417);
  assert.equal(refusalWhereOnly([], undefined, 'bogus')?.slug, 'expectation-unknown');
  assert.equal(refusalWhereOnly(['202-accepted'], '202-Accepted'), null);
  assert.equal(refusalWhereOnly(['202-accepted'], '200-ok')?.slug, 'expectation-impossible');
});

test('headers of 64 KiB are answered within milliseconds', () => {
  const long = [' ', ',', '"', '\\', 'a', 'a=', 'wait ', '200-ok,', '="', ';', '\t'].map((unit) =>
    unit.repeat(65536),
  );
  const started = process.hrtime.bigint();
  for (const text of [...long, ...long.map((text) => `wait${text.slice(0, 4000)}x`)]) {
    mode({ expect: text });
    assert.ok(mode({ prefer: text }).kind !== 'refused');
    assert.ok(refusal(text) === null || refusal(text) instanceof Problem);
  }
  assert.ok(Number(process.hrtime.bigint() - started) / 1e6 < 100);
});
