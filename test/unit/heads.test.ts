// What a process knows of heads: a cursor moves only behind what is proven, and a hint is never lost.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Heads } from '../../src/domain/heads.ts';

const lanes = new Set([1, 2]);

function choose(heads: Heads, now: number, suspects = false) {
  return heads.choose(lanes, suspects, now);
}

test('asks only heads that were named, among the lanes that are served', () => {
  const heads = new Heads();
  heads.ready(1, 5);
  heads.ready(3, 5);
  assert.deepEqual(
    choose(heads, 0).map(({ lane, prio, cursor }) => ({ lane, prio, cursor })),
    [{ lane: 1, prio: 5, cursor: '0' }],
  );
});

test('keeps suspects apart from healthy jobs', () => {
  const heads = new Heads();
  heads.ready(1, 5);
  heads.ready(1, 25);
  assert.deepEqual(
    choose(heads, 0).map((head) => head.prio),
    [5],
  );
  assert.deepEqual(
    choose(heads, 0, true).map((head) => head.prio),
    [25],
  );
});

test('puts a head to sleep when a claim finds it empty', () => {
  const heads = new Heads();
  heads.ready(1, 5);
  heads.observe(choose(heads, 0), [], 0);
  assert.deepEqual(choose(heads, 1), []);
  assert.equal(heads.anyReady(lanes), false);
});

test('keeps a head awake when a hint came while the claim was under way', () => {
  const heads = new Heads();
  heads.ready(1, 5);
  const asked = choose(heads, 0);
  heads.ready(1, 5);
  heads.observe(asked, [], 1);
  assert.equal(choose(heads, 2).length, 1);
});

test('moves the cursor only 50 ms after a sighting and when the snapshots prove it', () => {
  const heads = new Heads();
  heads.ready(1, 5);
  const see = (first_live: string, xmin: string, xmax: string, now: number) =>
    heads.observe(choose(heads, now), [{ head: 1, first_live, xmin, xmax }], now);
  see('100', '10', '20', 0);
  see('110', '20', '30', 49);
  assert.equal(choose(heads, 50)[0]?.cursor, '0', 'too young');
  see('120', '19', '40', 60);
  assert.equal(choose(heads, 61)[0]?.cursor, '0', 'an older transaction may still commit behind it');
  see('130', '20', '50', 70);
  assert.equal(choose(heads, 71)[0]?.cursor, '99');
});

test('trusts a sighting without proof after a second', () => {
  const heads = new Heads();
  heads.ready(1, 5);
  const see = (now: number) =>
    heads.observe(choose(heads, now), [{ head: 1, first_live: '100', xmin: '1', xmax: '20' }], now);
  see(0);
  see(999);
  assert.equal(choose(heads, 999)[0]?.cursor, '0');
  see(1_000);
  assert.equal(choose(heads, 1_001)[0]?.cursor, '99');
});

test('starts from the beginning every ten seconds and when a slow insert is told', () => {
  const heads = new Heads();
  heads.ready(1, 5);
  const see = (now: number) =>
    heads.observe(choose(heads, now), [{ head: 1, first_live: '100', xmin: '9', xmax: '9' }], now);
  see(0);
  see(100);
  assert.equal(choose(heads, 101)[0]?.cursor, '99');
  heads.ready(1, 5, 50n);
  assert.equal(choose(heads, 102)[0]?.cursor, '49');
  see(103);
  see(203);
  assert.equal(choose(heads, 204)[0]?.cursor, '99');
  assert.equal(choose(heads, 10_205)[0]?.cursor, '0');
});
