// Failures of one cause have one fingerprint, whatever their messages carry along; another cause has another.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Cause,
  constantPart,
  fingerprintOf,
  placeOfError,
  placeOfUrl,
} from '../../src/domain/fingerprint.ts';

const cause: Cause = {
  type: 'card.charge',
  class: 'retryable',
  source: 'handler',
  http_status: null,
  message: 'no answer from 10.0.0.7:5432 after 30s',
  place: 'charge card.ts',
};

test('a fingerprint is 16 hex digits, the same for the same cause in every release', () => {
  assert.equal(fingerprintOf(cause), '509f0b77dc9a3a5f');
});

test('what varies in a message does not count', () => {
  const same: [string, ...string[]][] = [
    ['order 17 is unknown', 'order 4711 is unknown', 'order -3 is unknown'],
    ['user42 not found', 'user7 not found'],
    ["no row for key 'anna'", "no row for key 'b o b'", "no row for key ''"],
    ['bad value "x": 1', 'bad value "y z": 22'],
    ['connect ECONNREFUSED 127.0.0.1:5432', 'connect ECONNREFUSED 10.1.2.3:6432'],
    ['connect ECONNREFUSED ::1:5432', 'connect ECONNREFUSED fe80::a:1:5432'],
    [
      'lock 8f14e45f-ceea-467f-a9b8-0242ac120002 is held',
      'lock ABCDEF01-ceea-467f-abcd-abcdefabcdef is held',
    ],
    ['object 5d41402abc4b2a76b9719d911017c592 is gone', 'object deadbeefdeadbeef is gone'],
    ['late since 2026-01-02T03:04:05.678Z', 'late since 2025-12-31 23:59:59+02:00'],
    ['took 1.5s', 'took 900ms'],
    ['cannot open /var/spool/1/a81f/part-03.csv', 'cannot open /var/spool/22/9c/part-1.csv'],
    ['rejected anna@example.com', 'rejected bob.m+news@mail.example.org'],
    ['ids 1, 2, 3 are taken', 'ids 5 are taken'],
    ['segfault at 0x7ffe12ab', 'segfault at 0x1'],
    ['two  lines\n here', 'two lines here'],
  ];
  for (const [first, ...others] of same) {
    for (const other of others) assert.equal(constantPart(other), constantPart(first));
  }
});

test('what tells causes apart counts', () => {
  const messages = [
    'order 17 is unknown',
    'order 17 is closed',
    "user's card was refused, can't go on",
    "user's card was accepted, can't go on",
    'connect ECONNREFUSED 127.0.0.1:5432',
    'connect ETIMEDOUT 127.0.0.1:5432',
    '',
  ];
  const others: Cause[] = [
    { ...cause, type: 'card.refund' },
    { ...cause, class: 'permanent' },
    { ...cause, source: 'worker' },
    { ...cause, http_status: 500 },
    { ...cause, http_status: 502 },
    { ...cause, place: 'refund card.ts' },
    { ...cause, place: null },
    ...messages.map((message) => ({ ...cause, message })),
  ];
  assert.equal(new Set([cause, ...others].map(fingerprintOf)).size, others.length + 1);
});

test('no message is too odd or too long to be read in a few milliseconds', () => {
  const odd = fc.stringMatching(/^['"`“«@.:#\-, 0-9a-f]{0,400}$/);
  fc.assert(
    fc.property(fc.oneof(odd, fc.string({ unit: 'binary', maxLength: 2_000 })), (message) => {
      const began = performance.now();
      assert.match(fingerprintOf({ ...cause, message }), /^[0-9a-f]{16}$/);
      assert.ok(performance.now() - began < 200);
    }),
    { numRuns: 30 },
  );
  for (const part of ["'", '"a', 'a@', 'a:', '1,', '`“', '::', 'a.a@b', '#']) {
    const began = performance.now();
    fingerprintOf({ ...cause, message: part.repeat(2_000 / part.length) });
    assert.ok(performance.now() - began < 200, part);
  }
});

test('the place of an error is function and file of its first own frame, without line and folder', () => {
  const stack = (...frames: string[]) => ['Error: x', ...frames].join('\n');
  const places: [string, string | null][] = [
    [stack('    at charge (file:///srv/app/card.ts:10:5)'), 'charge card.ts'],
    [stack('    at charge (/home/me/handlers/card.ts:99:1)'), 'charge card.ts'],
    [stack('    at async charge (C:\\app\\card.ts:9:1)'), 'charge card.ts'],
    [stack('    at file:///srv/app/card.ts?v=3:10:5'), 'card.ts'],
    [stack('    at async file:///srv/app/card.ts:10:5'), 'card.ts'],
    [
      stack(
        '    at node:internal/process/task_queues:95:5',
        '    at query (/app/node_modules/pg/lib/client.js:1:2)',
        '    at Object.run (file:///app/card.ts:3:4)',
      ),
      'Object.run card.ts',
    ],
    [stack('    at query (/app/node_modules/pg/lib/client.js:1:2)'), 'query client.js'],
    [stack(), null],
    ['nothing like a stack', null],
  ];
  for (const [text, place] of places) assert.equal(placeOfError(text), place, text);
});

test('the place of a push is its URL without query', () => {
  assert.equal(
    placeOfUrl('https://api.example.com:8443/v1/orders/7?key=s#x'),
    'https://api.example.com:8443/v1/orders/7',
  );
  assert.equal(placeOfUrl('nonsense'), null);
  const push = (url: string) => fingerprintOf({ ...cause, place: placeOfUrl(url) });
  assert.equal(push('https://example.com/orders/7?x=1'), push('https://example.com/orders/12?x=2'));
  assert.notEqual(push('https://example.com/orders/7'), push('https://example.com/users/7'));
});
