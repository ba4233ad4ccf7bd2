// A queue that holds more than its limits allow takes only what is critical, says when to come again, and takes everything
// again when it is well below.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type DrainBooks, guardedDrain } from '../support/guarded-drain.ts';

const max_depth = 300;
let books: DrainBooks;

before(async () => {
  // 60 jobs go out before it opens, at 20 each second.
  books = await guardedDrain({ max_depth, slots: 4, run_ms: 200, ask_ms: 500 });
});

test('over the limit critical jobs are taken, and others are refused with the reason', () => {
  assert.ok(books.told.length >= 3, `${books.told.length} were refused`);
  assert.ok(books.critical.length >= 3);
  assert.deepEqual([...new Set(books.critical)], [202]);
  for (const { problem } of books.told) {
    assert.equal(problem.code, 'queue-saturated');
    assert.equal(problem.status, 503);
    assert.equal(problem.reason, 'max_depth');
    assert.match(
      String(problem.detail),
      /queue "guarded" holds \d+ ready jobs of at most 300; .*or with priority 0,/,
    );
  }
});

test('an atomic batch is refused as a whole, another item by item', () => {
  assert.equal(books.atomic, 503);
  assert.deepEqual(books.apart, [202, 503]);
});

test('a validation is refused as the submit would be, and a repeat finds its job', () => {
  assert.equal(books.validated, 503);
  assert.equal(books.replayed, 202);
});

test('it closes at the limit and opens well below it', () => {
  const { closed_at, opened_at } = books;
  // It counts once a second, and a busy machine is slower: what comes meanwhile is still taken. The drill is strict.
  assert.ok(closed_at >= max_depth - 40 && closed_at <= 2 * max_depth, `closed at ${closed_at}`);
  assert.ok(opened_at <= max_depth * 0.8 + 5 && opened_at > max_depth * 0.7, `opened at ${opened_at}`);
});

test('Retry-After tells when that will be', () => {
  // The first moment knows no rate yet. A busy machine drains unsteadily, so this is generous; the drill is strict.
  const known = books.told.slice(2);
  assert.ok(known.length > 0);
  for (const { said_seconds, was_seconds } of known) {
    const off = Math.abs(said_seconds - was_seconds);
    assert.ok(off <= Math.max(2.5, was_seconds * 0.5), `${said_seconds} s said, ${was_seconds} s were`);
  }
});
