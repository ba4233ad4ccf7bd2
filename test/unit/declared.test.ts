// A file of schedules is read with the place of every member, and refused with the line of every fault before any of it is
// applied.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type Ask, applyDeclared, readDeclared } from '../../src/declared.ts';

const read = (text: string) => readDeclared(text, 'a.yaml');

function faultOf(text: string): string {
  try {
    read(text);
  } catch (error) {
    return (error as Error).message;
  }
  return assert.fail('it was read');
}

test('a schedule is the body of its PUT, and every member has a line', () => {
  const [one, two] = read(
    'schedules:\n  - name: a\n    cron: 0 2 * * *\n    job:\n      type: x\n  - {name: b, every_seconds: 60,\n     job: {type: y}}\n',
  );
  assert.equal(one?.body, '{"cron":"0 2 * * *","job":{"type":"x"}}');
  assert.equal(two?.body, '{"every_seconds":60,"job":{"type":"y"}}');
  const places = ['#/cron', '#/job/type', '#/job/absent/deeper', '#/timezone', '#'].map(one.place);
  assert.deepEqual(places, ['a.yaml:3', 'a.yaml:5', 'a.yaml:5', 'a.yaml:2', 'a.yaml:2']);
  assert.equal(two?.place('#/job/type'), 'a.yaml:7');
});

test('JSON is YAML, and a payload becomes JSON with every digit of its integers', () => {
  const payload = '{"n":9007199254740993,"f":1.5,"s":"2026-01-01","d":"yes"}';
  const [json] = read(`{"schedules":[{"name":"a","job":{"payload":${payload}}}]}`);
  assert.equal(json?.body, `{"job":{"payload":${payload}}}`);
  const [yaml] = read(
    'schedules:\n- name: a\n  job:\n    payload: {n: 9007199254740993, d: 2026-01-01, y: yes, o: 0o17, t: true, x: ~}\n',
  );
  assert.equal(
    yaml?.body,
    '{"job":{"payload":{"n":9007199254740993,"d":"2026-01-01","y":"yes","o":15,"t":true,"x":null}}}',
  );
});

test('what schedules share may be written once', () => {
  const [, two] = read(
    'schedules:\n- &base\n  name: a\n  every_seconds: 60\n  job: {type: x}\n- <<: *base\n  name: b\n',
  );
  assert.deepEqual(JSON.parse(two?.body ?? ''), { every_seconds: 60, job: { type: 'x' } });
});

const faulty: [what: string, text: string, says: RegExp][] = [
  ['no YAML', 'schedules:\n  - name: "a\n', /a\.yaml:\d: /],
  ['a member twice', 'schedules:\n- name: a\n  cron: x\n  cron: y\n', /a\.yaml:4: .*unique/],
  ['no list', 'nightly:\n  cron: x\n', /a\.yaml:1: the file holds no list; begin with "schedules:"/],
  ['nothing', '', /begin with "schedules:"/],
  ['something besides the list', 'schedules: []\nmore: 1\n', /member "more" is not known here/],
  ['an item that is none', 'schedules:\n- nightly\n', /a\.yaml:2: name is missing; use 1 to 63/],
  [
    'a name that is none',
    'schedules:\n- cron: x\n  name: Nightly\n',
    /a\.yaml:3: name is "Nightly"; use 1 to 63/,
  ],
  [
    'the name of another path',
    'schedules:\n- name: preview\n',
    /a\.yaml:2: name is "preview"; .*but not "preview"/,
  ],
  [
    'a name twice',
    'schedules:\n- name: a\n- name: b\n- name: a\n',
    /a\.yaml:4: schedule "a" is declared twice/,
  ],
  [
    'a number JSON has not',
    'schedules:\n- name: a\n  job: {payload: .inf}\n',
    /a\.yaml:2: payload is Infinity/,
  ],
  ['a tag', 'schedules:\n- name: a\n  job: !!js/function "x"\n', /a\.yaml:3: Unresolved tag/],
  ['an alias of nothing', 'schedules:\n- *nobody\n', /a\.yaml/],
];

for (const [what, text, says] of faulty) {
  test(`refuses ${what} and says where`, () => assert.match(faultOf(text), says));
}

test('aliases that multiply without end are refused', () => {
  const lines = Array.from({ length: 12 }, (_, i) => `x${i + 1}: &x${i + 1} [${`*x${i}, `.repeat(9)}]`);
  assert.match(faultOf(`x0: &x0 [1]\n${lines.join('\n')}\n`), /alias/i);
});

test('with one fault in the file nothing is written, and all faults are told with their lines', async () => {
  const declared = read(
    'schedules:\n- name: a\n  cron: bad\n- name: b\n  cron: good\n- name: c\n  cron: bad\n',
  );
  const calls: string[] = [];
  const ask: Ask = async (method, path, _headers, body) => {
    calls.push(`${method} ${path}`);
    const errors = [{ pointer: '#/cron', detail: 'is bad' }];
    const refused = JSON.stringify({ detail: 'bad', errors });
    return body.includes('bad')
      ? { status: 422, etag: undefined, body: refused }
      : { status: 200, etag: undefined, body: '{"slots":[{}]}' };
  };
  const options = { dry: false, onApplied: () => assert.fail('nothing is applied') };
  await assert.rejects(applyDeclared(declared, ask, options), ({ message }: Error) => {
    assert.match(
      message,
      /a\.yaml:3: schedule "a": #\/cron is bad\n.*a\.yaml:7: schedule "c": #\/cron is bad$/s,
    );
    return true;
  });
  assert.equal(calls.filter((call) => call.startsWith('PUT')).length, 0);
});

test('an answer that is no preview is a fault, whatever its status: nothing is written over a proxy page', async () => {
  const ask: Ask = async () => ({ status: 200, etag: undefined, body: '<html>welcome</html>' });
  const options = { dry: false, onApplied: () => assert.fail('nothing is applied') };
  const declared = read('schedules:\n- name: a\n  every_seconds: 60\n');
  await assert.rejects(applyDeclared(declared, ask, options), /no answer of errand's: <html>welcome/);
});

test('the example is one that is read', () => {
  const file = new URL('../../examples/schedules.yaml', import.meta.url);
  const declared = readDeclared(readFileSync(file, 'utf8'), 'schedules.yaml');
  assert.ok(declared.length >= 3);
});
