// A patch does what RFC 7396 says of every example in its appendix A, and takes what is opaque as one value.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RawJson } from '../../src/domain/json.ts';
import { mergePatch } from '../../src/domain/merge-patch.ts';

const appendixA: [original: string, patch: string, result: string][] = [
  ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
  ['{"a":"b"}', '{"a":null}', '{}'],
  ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
  ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
  ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
  ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
  ['["a","b"]', '["c","d"]', '["c","d"]'],
  ['{"a":"b"}', '["c"]', '["c"]'],
  ['{"a":"foo"}', 'null', 'null'],
  ['{"a":"foo"}', '"bar"', '"bar"'],
  ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
  ['[1,2]', '{"a":"b","c":null}', '{"a":"b"}'],
  ['{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
];

for (const [original, patch, result] of appendixA) {
  test(`${original} patched by ${patch} is ${result}`, () => {
    assert.deepEqual(mergePatch(JSON.parse(original), JSON.parse(patch)), JSON.parse(result));
  });
}

test('a payload is replaced as a whole, and nothing of it is merged', () => {
  const [old, fresh] = [new RawJson('{"a":1}'), new RawJson('{"b":2}')];
  assert.equal((mergePatch({ payload: old }, { payload: fresh }) as { payload: unknown }).payload, fresh);
});

test('a member called __proto__ is a member like any other', () => {
  const merged = mergePatch({}, JSON.parse('{"__proto__":{"x":1}}')) as object;
  assert.deepEqual(Object.keys(merged), ['__proto__']);
  assert.equal('x' in merged, false);
});
