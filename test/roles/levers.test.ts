// A pause holds in every process within a second, told of or not, and ends by itself; whoever could not look for too long
// hands out nothing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { Levers } from '../../src/actions/levers.ts';
import { defineHandler } from '../../src/errand.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let client: pg.Client;
const runs: string[] = [];

before(async () => {
  const handler = (type: string) => defineHandler({ type, run: () => 1 });
  errand = await startErrand({ handlers: [handler('work'), handler('other')] });
  errand.events.on('job.claimed', ({ job_id }) => runs.push(job_id));
  client = new pg.Client({ connectionString: errand.databaseUrl });
  await client.connect();
});

after(async () => {
  await client.end();
  await errand.stop();
});

async function change(text: string, told: boolean): Promise<void> {
  await client.query(text);
  await client.query('update errand.lever_turn set turn = turn + 1');
  if (told) await client.query(`select pg_notify('errand_levers', '')`);
}

async function submit(over: Parameters<typeof aSubmission>[0]): Promise<string> {
  return (await errand.actions.submit(aSubmission(over))).id;
}

for (const told of [true, false]) {
  const how = told ? 'that is told of' : 'that nobody tells of';
  test(`a pause of a queue ${how} holds its jobs and no others, and lets them go within a second`, async () => {
    const queue = `q-${told}`;
    await change(`insert into errand.queue (name, paused_at) values ('${queue}', now())`, told);
    const held = await heldIn(queue, 'work');
    const free = await submit({ queue: 'free' });
    await until(() => runs.includes(free));
    assert.ok(!runs.includes(held));
    const began = performance.now();
    await change(`update errand.queue set paused_at = null where name = '${queue}'`, told);
    await until(() => runs.includes(held));
    assert.ok(performance.now() - began < 1_200, `started after ${performance.now() - began} ms`);
  });
}

test('a pause of a type holds that type alone, and ends by itself', async () => {
  await change(
    `insert into errand.type_pause (queue, type, paused_until) values ('types', 'work', now() + interval '2 s')`,
    true,
  );
  const held = await heldIn('types', 'work');
  const free = await submit({ queue: 'types', type: 'other' });
  await until(() => runs.includes(free));
  assert.ok(!runs.includes(held));
  await until(() => runs.includes(held));
});

/** A job that does not start although its pause has become known: those submitted before may have. */
async function heldIn(queue: string, type: string): Promise<string> {
  for (;;) {
    const id = await submit({ queue, type });
    const { id: probe } = await errand.actions.submit(aSubmission({ queue: 'probe' }));
    await until(() => runs.includes(probe));
    await new Promise((resolve) => setImmediate(resolve));
    if (!runs.includes(id)) return id;
  }
}

test('news that is too old holds everything, and a look lets it go', async (t) => {
  t.mock.timers.enable({ apis: ['Date'] });
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  let released = 0;
  const levers = new Levers({
    db: { one: async () => ({ turn: '1', now: new Date(0) }), many: async () => [] } as never,
    laneOf: () => undefined,
    onRelease: () => released++,
  });
  assert.equal(levers.mayClaim(1), false, 'nothing is known yet');
  await levers.look();
  now = 2_900;
  assert.equal(levers.mayClaim(1), true);
  now = 3_100;
  assert.equal(levers.mayClaim(1), false);
  assert.equal(released, 0);
  await levers.look();
  assert.equal(levers.mayClaim(1), true);
  assert.equal(released, 1);
});

test('a look that is asked for while another is under way is made after it', async () => {
  const turns = [Promise.withResolvers<object>(), Promise.withResolvers<object>()];
  let asked = 0;
  const levers = new Levers({
    db: { one: async () => turns[asked++]?.promise, many: async () => [] } as never,
    laneOf: () => undefined,
    onRelease: () => {},
  });
  const first = levers.look();
  const second = levers.look();
  assert.equal(second, levers.look(), 'those who come together share one');
  assert.equal(asked, 1);
  turns[0]?.resolve({ turn: '1', now: new Date(0) });
  await first;
  turns[1]?.resolve({ turn: '1', now: new Date(0) });
  await second;
  assert.equal(asked, 2);
});
