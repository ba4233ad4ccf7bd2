// Accept, as RFC 9110 section 12.5.1 reads it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { preferred } from '../../src/domain/media-choice.ts';

const offers = ['application/json', 'text/event-stream'] as const;
const json = offers[0];
const stream = offers[1];

const rows: [string | undefined, (typeof offers)[number] | null][] = [
  [undefined, json],
  ['', json],
  ['*/*', json],
  [stream, stream],
  [` ${stream} ; charset=utf-8`, stream],
  [`${json}, ${stream}`, json],
  [`${json};q=0.9, ${stream}`, stream],
  [`${stream};q=0.1`, stream],
  ['*/*;q=0.1, text/*', stream],
  [`text/event-stream, */*`, stream],
  [`text/*;q=0.9, text/event-stream;q=0.1, application/json;q=0.5`, json],
  [`${json};q=0, */*`, stream],
  ['text/html', null],
  ['*/*;q=0', null],
  ['nonsense', null],
  [',,;q=,', null],
];

for (const [accept, offer] of rows) {
  test(`Accept ${JSON.stringify(accept)} prefers ${offer}`, () =>
    assert.equal(preferred(accept, offers), offer));
}

test('no Accept makes it fail, and what it answers was offered', () => {
  fc.assert(
    fc.property(fc.string(), (accept) => {
      const offer = preferred(accept, offers);
      assert.ok(offer === null || offers.includes(offer));
    }),
  );
});
