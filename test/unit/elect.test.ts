// Who leads, as one process believes it: never longer than its last renewal allows, whatever the database does.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { Lead } from '../../src/actions/lead.ts';
import { type Candidate, electing } from '../../src/roles/elect.ts';
import { until } from '../support/until.ts';

/** A database in memory that leads nobody at first. */
function aRoom() {
  const room = { term: 0, holder: '', until: 0, renewals: 0, resigned: [] as string[], fails: false };
  const check = () => {
    if (room.fails) throw new Error('the database is away');
  };
  const lead = (holder: string, term_ms: number): Lead => ({
    async leader() {
      check();
      const left_ms = room.until - performance.now();
      return room.term === 0
        ? undefined
        : {
            term: String(room.term),
            holder: room.holder,
            since: new Date(),
            until: new Date(),
            age_seconds: 0,
            left_ms,
            is_free: left_ms <= 0,
          };
    },
    async campaign() {
      check();
      if (room.until > performance.now()) return null;
      Object.assign(room, { term: room.term + 1, holder, until: performance.now() + term_ms });
      return String(room.term);
    },
    async renew(term) {
      check();
      room.renewals++;
      if (String(room.term) !== term || room.until <= performance.now()) return false;
      room.until = performance.now() + term_ms;
      return true;
    },
    async resign(term) {
      room.resigned.push(term);
      if (String(room.term) === term) room.until = performance.now();
    },
  });
  return { room, lead };
}

const candidates: Candidate[] = [];
afterEach(async () => {
  await Promise.all(candidates.splice(0).map((one) => one.stop(performance.now())));
});

function candidate(lead: Lead, term_ms: number) {
  const told: string[] = [];
  const lostAt: number[] = [];
  const one = electing({
    lead,
    term_ms,
    onElected: (term) => told.push(`elected ${term}`),
    onLost(term, why) {
      lostAt.push(performance.now());
      told.push(`lost ${term}: ${why}`);
    },
    onError: (_name, error) => told.push(`failed: ${(error as Error).message}`),
  });
  candidates.push(one);
  void one.start();
  return { one, told, lostAt };
}

test('the first to ask leads, renews its term, and another does not lead meanwhile', async () => {
  const { room, lead } = aRoom();
  const first = candidate(lead('a', 1_000), 1_000);
  await until(() => first.one.term() === '1');
  const second = candidate(lead('b', 1_000), 1_000);
  await until(() => room.renewals >= 5);
  assert.equal(first.one.term(), '1');
  assert.deepEqual([first.told, second.told], [['elected 1'], []]);
});

test('who stops gives the office back, and another takes it without waiting for the end of the term', async () => {
  const { room, lead } = aRoom();
  const first = candidate(lead('a', 60_000), 60_000);
  await until(() => first.one.term() === '1');
  const second = candidate(lead('b', 60_000), 60_000);
  await first.one.stop(performance.now());
  assert.deepEqual(room.resigned, ['1']);
  assert.equal(first.one.term(), null);
  await until(() => second.one.term() === '2', { timeoutMs: 5_000 });
});

test('a term that cannot be renewed is given up by two thirds of it, though nobody said that it is over', async () => {
  const { room, lead } = aRoom();
  const { one, told, lostAt } = candidate(lead('a', 1_500), 1_500);
  await until(() => one.term() === '1');
  room.fails = true;
  await until(() => told.includes('lost 1: it could not be renewed in time'));
  assert.equal(one.term(), null);
  assert.ok((lostAt[0] as number) < room.until, 'it was given up when it was over already');
  room.fails = false;
  await until(() => one.term() === '2');
});

test('a renewal that hangs does not keep the term, and what it brings late is given back', async () => {
  const { room, lead } = aRoom();
  const own = lead('a', 3_000);
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  let hangs = false;
  let hanging: string | undefined;
  const { one } = candidate(
    {
      ...own,
      async renew(term) {
        const renewed = await own.renew(term);
        if (hangs) {
          hanging = term;
          await gate;
        }
        return renewed;
      },
    },
    3_000,
  );
  await until(() => one.term() === '1');
  hangs = true;
  await until(() => hanging !== undefined);
  await until(() => one.term() !== hanging);
  hangs = false;
  open();
  await until(() => room.resigned.length > 0);
  assert.deepEqual(room.resigned, [hanging]);
  // It may have been elected again by now, for another term.
  assert.notEqual(one.term(), hanging);
});

test('who is told by the database that the term is over stops believing in it at once', async () => {
  const { room, lead } = aRoom();
  const { one, told } = candidate(lead('a', 60_000), 60_000);
  await until(() => one.term() === '1');
  Object.assign(room, { term: 2, holder: 'b', until: performance.now() + 60_000 });
  one.lose('the database says so');
  assert.equal(one.term(), null);
  assert.deepEqual(told, ['elected 1', 'lost 1: the database says so']);
});

test('a term that another has taken is lost at the next renewal', async () => {
  const { room, lead } = aRoom();
  const { one, told } = candidate(lead('a', 500), 500);
  await until(() => one.term() === '1');
  Object.assign(room, { term: 2, holder: 'b', until: performance.now() + 60_000 });
  await until(() => one.term() === null);
  assert.equal(told.at(-1), 'lost 1: another term has begun, or could have');
});
