// Proves that the envelope parser reads what JSON.parse reads, keeps payloads byte for byte and refuses the
// bad bodies of docs/contract.md, JSON, with a pointer and without repeating content.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Envelope, parseEnvelope, RawJson } from '../../src/domain/json.ts';
import { Problem } from '../../src/domain/problem.ts';

const limits = {
  opaque: new Set(['payload', 'result']),
  maxEnvelopeDepth: 16,
  maxPayloadDepth: 64,
  maxKeys: 1000,
};
const parse = (text: string | Buffer): Envelope => parseEnvelope(Buffer.from(text as string), limits);

const refusalOf = (text: string | Buffer): Problem => {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof Problem, String(error));
    return error;
  }
  assert.fail(`accepted ${String(text).slice(0, 80)}`);
};
const slugOrNull = (text: string) => {
  try {
    parse(text);
    return null;
  } catch (error) {
    assert.ok(error instanceof Problem, String(error));
    return error.slug;
  }
};
const isJson = (text: string) => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};
const slugOf = (text: string | Buffer) => refusalOf(text).slug;
const pointerOf = (text: string | Buffer) => refusalOf(text).errors[0]?.pointer;

const payloadOf = (text: string): string => {
  const { payload } = parse(text);
  assert.ok(payload instanceof RawJson);
  return payload.text;
};

// Values without opaque members, so that the whole tree must come out as JSON.parse gives it.
const storable = fc
  .array(fc.constantFrom(...'ab "\\/\n\t\u007f', 'é', '€', '😀', '\u2028', '{', '[', ':', ','), {
    maxLength: 12,
  })
  .map((chars) => chars.join(''));
// "\\" is left out because JSON.parse of V8 13.6 reads it where another escaped name of one character stands ("\n").
const memberName = storable.filter((name) => !['payload', 'result', '__proto__', '\\'].includes(name));
const { value: anyValue } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.constantFrom(null, true, false),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer(),
    storable,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(memberName, tie('value'), { maxKeys: 4, noNullPrototype: true }),
  ),
}));
const anyEnvelope = fc.dictionary(memberName, anyValue, { maxKeys: 6, noNullPrototype: true });
const anySpace = fc.constantFrom(undefined, 1, '\t', '\r\n  ');

test('reads every envelope as JSON.parse does', () => {
  fc.assert(
    fc.property(anyEnvelope, anySpace, (envelope, space) => {
      const text = JSON.stringify(envelope, null, space);
      assert.deepEqual(parse(text), JSON.parse(text));
    }),
  );
});

test('keeps every payload as it was written', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), anyEnvelope, anySpace, (payload, envelope, space) => {
      const spaced = JSON.stringify(JSON.parse(payload), null, space);
      const rest = JSON.stringify(envelope, null, space).slice(1);
      const body = `{ "payload" : ${spaced} ${rest.trim() === '}' ? '}' : `,${rest}`}`;
      assert.equal(payloadOf(body), spaced);
      const { payload: _, ...others } = parse(body);
      assert.deepEqual(others, JSON.parse(JSON.stringify(envelope)));
    }),
  );
});

test('accepts exactly what JSON.parse accepts, however a text is mangled', () => {
  const token = fc.constantFrom(...'{}[]:,"\\ \n-+.eE0123aftn', 'true', 'null', '\\u00', '\\ud8', '""');
  const place = fc.nat({ max: 60 });
  fc.assert(
    fc.property(fc.json({ maxDepth: 3 }), place, place, token, (json, at, length, insert) => {
      const text = `{"payload":${json.slice(0, at)}${insert}${json.slice(at + (length % 3))}}`;
      const slug = slugOrNull(text);
      // These two are legal JSON that we refuse, should the mangling have made members of the envelope.
      if (slug !== 'duplicate-key' && slug !== 'payload-not-storable')
        assert.equal(slug === null, isJson(text), text);
    }),
    { numRuns: 2000 },
  );
});

test('numbers, key order, escapes and blanks of a payload survive', () => {
  const payload = '{ "b":9007199254740993, "a":1e400,"b":-0.0 ,"s":"\\u0000\\ud800\\/é\u2028" }';
  assert.equal(payloadOf(`{"type":"t","payload":${payload} , "priority":1}`), payload);
  assert.equal(new RawJson('"é"').bytes, 4);
});

test('scalars and null are payloads too', () => {
  for (const payload of ['null', '0', '-1.5E+3', '"x"', 'true', '[]', '{}']) {
    assert.equal(payloadOf(`{"payload":${payload}}`), payload);
  }
});

test('opaque members are opaque only where the contract names them', () => {
  const { target, result } = parse('{"target":{"payload":{"a":1}},"result":{"a":1}}');
  assert.deepEqual(target, { payload: { a: 1 } });
  assert.ok(result instanceof RawJson);
  assert.equal(payloadOf('{"pay\\u006coad":[1]}'), '[1]');
});

test('a text for people may hold anything, where it is named as one', () => {
  const body = Buffer.from('{"message":"a\\u0000\\ud800","leases":[{"message":"\\u0000"},{"message":[1]}]}');
  const prose = { ...limits, items: 'leases', prose: new Set(['message']) };
  assert.deepEqual(parseEnvelope(body, prose), {
    message: 'a\0\ud800',
    leases: [{ message: '\0' }, { message: [1] }],
  });
  const elsewhere = Buffer.from('{"target":{"message":"\\u0000"}}');
  assert.throws(() => parseEnvelope(elsewhere, prose), { slug: 'payload-not-storable' });
});

test('the items of a batch are envelopes of their own', () => {
  const body = Buffer.from('{"jobs":[{"payload":[1, 2]},{"type":"t"}],"other":[{"payload":3}]}');
  const { jobs, other } = parseEnvelope(body, { ...limits, items: 'jobs' }) as {
    jobs: Envelope[];
    other: unknown;
  };
  assert.deepEqual(jobs[0]?.payload, new RawJson('[1, 2]'));
  assert.deepEqual(jobs[1], { type: 't' });
  assert.deepEqual(other, [{ payload: 3 }]);
});

test('__proto__ and constructor are members like any other', () => {
  for (const text of ['{"__proto__":{"admin":true}}', '{"\\u005f_proto__":{"admin":true}}']) {
    const envelope = parse(text);
    assert.deepEqual(Object.keys(envelope), ['__proto__']);
    assert.equal(Object.getPrototypeOf(envelope), Object.prototype);
    assert.equal(envelope.admin, undefined);
  }
  assert.deepEqual(Object.keys(parse('{"constructor":{"prototype":{"x":1}},"toString":1}')), [
    'constructor',
    'toString',
  ]);
  assert.equal(({} as Record<string, unknown>).x, undefined);
  const payload = '{"__proto__":{"a":1},"constructor":{"prototype":{}}}';
  assert.equal(payloadOf(`{"payload":${payload}}`), payload);
});

test('answers 400 duplicate-key with a pointer, at any depth outside the payload', () => {
  assert.equal(slugOf('{"a":1,"a":2}'), 'duplicate-key');
  assert.equal(pointerOf('{"a":1,"b":[{}, {"x":{"c/d":1,"c/d":2}}]}'), '#/b/1/x/c~1d');
  assert.equal(pointerOf('{"a":1,"\\u0061":2}'), '#/a');
  assert.equal(pointerOf('{"payload":1,"payload":2}'), '#/payload');
  assert.equal(pointerOf('{"__proto__":1,"__proto__":2}'), '#/__proto__');
  assert.equal(pointerOf('{"é %":1,"é %":2}'), '#/%C3%A9%20%25');
  assert.equal(payloadOf('{"payload":{"a":1,"a":2}}'), '{"a":1,"a":2}');
});

test('answers 400 malformed-json to what is no JSON, with the byte and without the content', () => {
  const broken = [
    ...[
      '',
      ' ',
      '{',
      '{"a"',
      '{"a":',
      '{"a":1',
      '{"a":1,',
      '{"a":1,}',
      '{,}',
      '{"a":1 "b":2}',
      '{a:1}',
      "{'a':1}",
    ],
    ...[
      '{"a":01}',
      '{"a":1.}',
      '{"a":.5}',
      '{"a":+1}',
      '{"a":-}',
      '{"a":1e}',
      '{"a":NaN}',
      '{"a":Infinity}',
      '{"a":0x1}',
    ],
    ...[
      '{"a":tru}',
      '{"a":nul}',
      '{"a":"\n"}',
      '{"a":"\t"}',
      '{"a":"\\x"}',
      '{"a":"\\u12g4"}',
      '{"a":"',
      '{"a":"\\',
    ],
    ...[
      '{"a":[1,]}',
      '{"a":[1',
      '{}{}',
      '{}x',
      '{"a":1}}',
      '{"a":1}\0',
      '\u00a0{}',
      '{"a":1/**/}',
      '{"payload":}',
    ],
    ...[
      '{"payload":[}',
      '{"payload":{"a"}}',
      '{"payload":{1:2}}',
      '{"payload":tru',
      '{"payload":"\\ud8"}',
      '{"a":"\u0000"}',
    ],
  ];
  for (const text of broken) {
    assert.equal(slugOf(text), 'malformed-json', text);
    assert.throws(() => JSON.parse(text), text);
  }
  assert.match(refusalOf('{"é":hunter2}').detail, /at byte 6/);
  assert.doesNotMatch(refusalOf('{"password":hunter2}').message, /hunter|password/);
});

test('answers 400 to a byte order mark, to UTF-16 and to bytes that are no UTF-8', () => {
  assert.equal(slugOf('\ufeff{}'), 'malformed-json');
  assert.equal(slugOf(Buffer.from('\ufeff{}', 'utf16le')), 'invalid-utf8');
  assert.equal(slugOf(Buffer.from('{}', 'utf16le')), 'malformed-json');
  for (const bytes of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xe2, 0x82]]) {
    const body = Buffer.concat([Buffer.from('{"payload":"'), Buffer.from(bytes), Buffer.from('"}')]);
    assert.equal(slugOf(body), 'invalid-utf8');
  }
});

test('answers 422 to a body that is JSON but no object', () => {
  for (const text of ['[]', '[{"type":"t"}]', 'null', 'true', '1', '"x"', ' -0 ']) {
    assert.deepEqual([slugOf(text), pointerOf(text)], ['validation-failed', '#'], text);
  }
  for (const text of ['[', '[]]', 'nul', '1 2']) assert.equal(slugOf(text), 'malformed-json', text);
});

test('answers 400 to nesting deeper than 16 levels, or 64 in a payload, and names the limit', () => {
  const nest = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);
  assert.ok(parse(`{"a":${nest(15)}}`));
  assert.match(refusalOf(`{"a":${nest(16)}}`).detail, /16 levels/);
  assert.equal(payloadOf(`{"payload":${nest(64)}}`), nest(64));
  assert.match(refusalOf(`{"payload":${nest(65)}}`).detail, /64 levels/);
  assert.deepEqual(
    [slugOf(`{"payload":${nest(65)}}`), pointerOf(`{"payload":${nest(65)}}`)],
    ['malformed-json', '#/payload'],
  );
  assert.equal(slugOf(`{"payload":${'{"a":'.repeat(65)}1${'}'.repeat(65)}}`), 'malformed-json');
});

test('500,000 levels in 1 MB are refused within milliseconds', () => {
  for (const text of [
    '['.repeat(1e6),
    `{"payload":${'['.repeat(5e5)}${']'.repeat(5e5)}}`,
    `{"a":${'{"b":'.repeat(2e5)}`,
  ]) {
    const body = Buffer.from(text);
    // CPU, not time: a busy machine proves nothing against the reader. Without a bound on levels it takes seconds.
    const before = process.cpuUsage();
    assert.equal(slugOf(body), 'malformed-json');
    assert.ok(process.cpuUsage(before).user < 100_000);
  }
});

test('answers 400 to more than 1,000 members outside the payload', () => {
  const members = (count: number) => Array.from({ length: count }, (_, at) => `"k${at}":${at}`).join(',');
  assert.equal(Object.keys(parse(`{${members(1000)}}`)).length, 1000);
  assert.equal(slugOf(`{${members(1001)}}`), 'malformed-json');
  assert.match(refusalOf(`{"a":{${members(100_000)}}}`).detail, /1000 members/);
  assert.ok(payloadOf(`{"payload":{${members(5000)}}}`).length > 5000);
});

test('answers 422 to text that Postgres cannot hold, outside the payload', () => {
  assert.equal(slugOf('{"queue":"a\\u0000"}'), 'payload-not-storable');
  assert.equal(pointerOf('{"queue":"a\\u0000"}'), '#/queue');
  assert.equal(pointerOf('{"tags":["x","\\ud800"]}'), '#/tags/1');
  assert.equal(pointerOf('{"target":{"url":"\\udc00\\ud800"}}'), '#/target/url');
  assert.equal(pointerOf('{"target":{"\\ud800":1}}'), '#/target');
  assert.equal(pointerOf('{"\\u0000":1}'), '#');
  assert.deepEqual(parse('{"a":"\\ud83d\\ude00"}'), { a: '😀' });
});

test('a pointer does not grow with the name it points at', () => {
  const name = 'x'.repeat(50_000);
  assert.ok((pointerOf(`{"${name}":1,"${name}":2}`) ?? '').length < 100);
  const wide = '😀'.repeat(50);
  assert.ok(pointerOf(`{"a${wide}":1,"a${wide}":2}`));
});

test('no body whatsoever throws anything but a Problem', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        parseEnvelope(Buffer.from(bytes), limits);
      } catch (error) {
        assert.ok(error instanceof Problem);
      }
    }),
  );
});
