// Schedules as callers meet them: defined, changed, read, paused, fired by hand and deleted over HTTP, on a real database.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';

let errand: TestErrand;
let client: pg.Client;
// Nobody leads here: what is in the ledger was put there by the test.
before(async () => {
  errand = await startErrand({ env: { ERRAND_ROLES: 'api,worker' } });
  client = new pg.Client({ connectionString: errand.databaseUrl });
  await client.connect();
});
after(async () => {
  await client.end();
  await errand.stop();
});
const call = calling(() => errand.url);
const { get, post } = call;
const put = (name: string, body: unknown, headers?: Record<string, string>) =>
  call('PUT', `/v1/schedules/${name}`, body, headers);
const patch = (name: string, body: unknown, etag?: string | null) =>
  call('PATCH', `/v1/schedules/${name}`, JSON.stringify(body), {
    'content-type': 'application/merge-patch+json',
    ...(etag == null ? {} : { 'if-match': etag }),
  });

const nightly = { cron: '0 2 * * *', timezone: 'Europe/Madrid', job: { type: 'report' } };
const hourly = { every_seconds: 3_600, job: { type: 'report' } };

/** What the database keeps of a schedule. */
async function keptOf(name: string) {
  const { rows } = await client.query('select *, xmin::text from errand.schedule where name = $1', [name]);
  return rows[0];
}

test('a definition is kept with every default filled in, and shown with its payload byte for byte', async () => {
  const payload = '{"b":1e400, "a":9007199254740993, "__proto__":1}';
  const made = await put('defaults', `{"every_seconds":3600,"job":{"type":"a","payload": ${payload}}}`);
  assert.equal(made.status, 201);
  assert.equal(made.headers.get('location'), '/v1/schedules/defaults');
  const read = await fetch(`${errand.url}/v1/schedules/defaults`);
  assert.equal(read.headers.get('etag'), made.headers.get('etag'));
  const text = await read.text();
  assert.ok(text.endsWith(`"payload":${payload}}}`), text);
  const { created_at, changed_at, next_slot, next_due_at, ...rest } = JSON.parse(
    text.replace(payload, '"kept"'),
  );
  assert.equal(created_at, changed_at);
  assert.equal(next_slot, next_due_at);
  assert.equal(Date.parse(next_slot) % 3_600_000, 0);
  assert.deepEqual(rest, {
    name: 'defaults',
    state: 'active',
    cron: null,
    timezone: 'UTC',
    every_seconds: 3_600,
    jitter_seconds: 0,
    starts_at: null,
    ends_at: null,
    misfire: 'fire_latest',
    max_lateness_seconds: 300,
    max_catch_up: 100,
    overlap: 'allow',
    job: {
      queue: 'default',
      type: 'a',
      priority: 5,
      payload: 'kept',
    },
    paused_at: null,
    pause_reason: null,
    held_slot: null,
    last: null,
  });
});

test('an identical definition changes nothing, with or without the right If-Match', async () => {
  const etag = (await put('same', hourly)).headers.get('etag') as string;
  const before = await keptOf('same');
  const respelled = { job: { queue: 'default', type: 'report', payload: null }, every_seconds: 3_600 };
  for (const headers of [{}, { 'if-match': etag }, { 'if-match': '"never"' }] as Record<string, string>[]) {
    const again = await put('same', respelled, headers);
    assert.equal(again.status, 200);
    assert.equal(again.headers.get('etag'), etag);
  }
  assert.deepEqual(await keptOf('same'), before);
});

test('a schedule that exists is replaced only by who names its version', async () => {
  const first = await put('guarded', hourly);
  const other = { ...hourly, every_seconds: 60 };
  const blind = await put('guarded', other);
  assert.equal(blind.status, 428);
  assert.equal(blind.json.code, 'precondition-required');
  const etag = blind.headers.get('etag') as string;
  assert.equal(etag, first.headers.get('etag'));
  assert.equal((await put('guarded', other, { 'if-match': '"0.0"' })).status, 412);
  assert.equal((await put('guarded', other, { 'if-match': `W/${etag}` })).status, 412);
  assert.equal((await put('guarded', other, { 'if-none-match': '*' })).status, 412);
  const changed = await put('guarded', other, { 'if-match': etag });
  assert.equal(changed.status, 200);
  assert.equal(changed.json.every_seconds, 60);
  const late = await put('guarded', hourly, { 'if-match': etag });
  assert.equal(late.status, 412);
  assert.equal(late.headers.get('etag'), changed.headers.get('etag'));
  assert.equal(
    (await put('guarded', hourly, { 'if-match': `"x", ${late.headers.get('etag')}` })).status,
    200,
  );
  const absent = await put('nowhere', hourly, { 'if-match': '*' });
  assert.equal(absent.status, 412);
  assert.equal(absent.headers.get('etag'), null);
  assert.equal((await get('/v1/schedules/nowhere')).status, 404);
  assert.equal((await put('once', hourly, { 'if-none-match': '*' })).status, 201);
});

test('what a refusal says never makes it another one, whatever the schedule is called', async () => {
  // Words by which a lost connection would be known.
  const name = 'terminated-socket.connection-timeout';
  await put(name, hourly);
  assert.equal((await put(name, { ...hourly, every_seconds: 60 })).status, 428);
});

test('of many who make the same schedule at once one makes it and the others find it made', async () => {
  const all = await Promise.all(Array.from({ length: 10 }, () => put('crowded', hourly)));
  assert.deepEqual(all.map(({ status }) => status).sort(), [...Array(9).fill(200), 201]);
});

test('firing does not spoil an If-Match, but is news to If-None-Match', async () => {
  const etag = (await put('running', hourly)).headers.get('etag') as string;
  const cached = () => get('/v1/schedules/running', { 'if-none-match': etag });
  assert.equal((await cached()).status, 304);
  assert.equal((await post('/v1/schedules/running/trigger')).status, 202);
  assert.equal((await cached()).status, 200);
  assert.equal((await patch('running', { jitter_seconds: 5 }, etag)).status, 200);
});

test('what was due under the old definition is owed under the new one', async () => {
  const etag = (await put('owing', { ...hourly, every_seconds: 60 })).headers.get('etag') as string;
  await client.query(
    `update errand.schedule set watermark = date_trunc('minute', now()) - interval '3 min' where name = 'owing'`,
  );
  const { watermark } = await keptOf('owing');
  const slots = [1, 2, 3].map((n) => new Date(watermark.getTime() + n * 60_000));
  assert.equal((await put('owing', hourly, { 'if-match': etag })).status, 200);
  const kept = await keptOf('owing');
  assert.deepEqual(kept.owed.slice(0, 3), slots);
  assert.ok(kept.watermark > (slots[2] as Date) && kept.next_due <= new Date(), 'looked at now');
  assert.equal(kept.version, 2);
  const again = await put('owing', { ...hourly, every_seconds: 7_200 }, { 'if-match': '*' });
  assert.equal(again.status, 200);
  assert.deepEqual((await keptOf('owing')).owed, kept.owed);
});

test('of more than a thousand slots that are owed the older ones are one row of the ledger', async () => {
  const etag = (await put('neglected', { ...hourly, every_seconds: 1 })).headers.get('etag') as string;
  await client.query(
    `update errand.schedule set watermark = date_trunc('second', now()) - interval '1500 s' where name = 'neglected'`,
  );
  const { watermark } = await keptOf('neglected');
  const decided = errand.next('slot.decided');
  assert.equal((await put('neglected', hourly, { 'if-match': etag })).status, 200);
  const { owed } = await keptOf('neglected');
  assert.equal(owed.length, 1_000);
  const { items } = (await get('/v1/schedules/neglected/runs')).json;
  assert.equal(items.length, 1);
  const [{ slot, through, slots, outcome, reason, job_id, fired_at }] = items;
  assert.deepEqual([outcome, reason, job_id, fired_at], ['skipped', 'misfire', null, null]);
  assert.equal(Date.parse(slot), watermark.getTime() + 1_000);
  assert.equal(Date.parse(through), owed[0].getTime() - 1_000);
  assert.equal((await decided).slots, slots);
  assert.equal(slots, (Date.parse(through) - Date.parse(slot)) / 1_000 + 1);
});

test('a definition that is no longer valid is shown, refused by its forecast, and can be replaced', async () => {
  for (const [name, change] of [
    ['mars.put', () => put('mars.put', hourly, { 'if-match': '*' })],
    ['mars.patch', () => patch('mars.patch', { timezone: 'UTC' }, '*')],
  ] as const) {
    await put(name, nightly);
    const { rows } = await client.query(
      `update errand.schedule set definition = jsonb_set(definition, '{timezone}', '"Mars/Base"'),
         watermark = now() - interval '2 h', next_slot = date_trunc('hour', now()), next_due = next_slot
       where name = $1 returning next_slot`,
      [name],
    );
    const read = await get(`/v1/schedules/${name}`);
    assert.deepEqual([read.status, read.json.timezone], [200, 'Mars/Base']);
    const forecast = await get(`/v1/schedules/${name}/preview`);
    assert.deepEqual([forecast.status, forecast.json.errors[0].pointer], [422, '#/timezone']);
    assert.match(forecast.json.detail, /Mars\/Base/);
    assert.equal((await change()).status, 200);
    assert.deepEqual((await keptOf(name)).owed, [rows[0].next_slot], 'its slot that was due is owed');
    assert.equal((await get(`/v1/schedules/${name}/preview`)).status, 200);
  }
});

test('every change is answered with what it made, whoever changes the schedule next', async () => {
  await put('contended', hourly);
  const seconds = Array.from({ length: 8 }, (_, n) => n + 1);
  const changes = seconds.flatMap((jitter_seconds) => [
    patch('contended', { jitter_seconds }, '*').then(({ json, headers }) => {
      assert.equal(json.jitter_seconds, jitter_seconds);
      return headers.get('etag');
    }),
    ...(['pause', 'resume'] as const).map(async (verb) => {
      const { json } = await post(`/v1/schedules/contended/${verb}`);
      assert.equal(json.state, verb === 'pause' ? 'paused' : 'active');
      return null;
    }),
  ]);
  const tags = (await Promise.all(changes)).filter((tag) => tag !== null);
  assert.equal(new Set(tags).size, seconds.length);
});

test('a new schedule owes nothing, even one that started long ago', async () => {
  await put('late', { ...hourly, starts_at: '2020-01-01T00:00:00Z' });
  const { owed, watermark, created_at } = await keptOf('late');
  assert.deepEqual([owed, watermark], [[], created_at]);
});

test('a merge patch changes what it names, keeps the rest and the payload, and is judged as a whole', async () => {
  const job = {
    type: 'report',
    payload: { deep: [1] },
    target: { url: 'http://127.0.0.1:9999/x', headers: { Authorization: 'Bearer secret', 'X-B': 'b' } },
  };
  const made = await put('patched', { ...hourly, job });
  assert.equal(made.status, 201, JSON.stringify(made.json));
  assert.deepEqual(made.json.job.target.headers.sort(), ['Authorization', 'X-B']);
  const etag = made.headers.get('etag');
  assert.equal((await patch('patched', { jitter_seconds: 5 })).status, 428);
  const both = await patch('patched', { cron: '0 2 * * *' }, etag);
  assert.equal(both.status, 422);
  assert.equal(both.json.errors[0].pointer, '#/cron');
  assert.equal((await patch('patched', { crom: null }, etag)).json.errors[0].pointer, '#/crom');
  const change = {
    jitter_seconds: 5,
    job: { tags: ['eu'], priority: null, target: { url: job.target.url } },
  };
  const changed = await patch('patched', change, etag);
  assert.equal(changed.status, 200);
  assert.equal(changed.json.jitter_seconds, 5);
  assert.deepEqual(changed.json.job.payload, { deep: [1] });
  assert.deepEqual(changed.json.job.tags, ['eu']);
  assert.deepEqual((await keptOf('patched')).definition.job.target.headers, job.target.headers);
  assert.doesNotMatch(JSON.stringify(changed.json), /secret/);
  const replaced = await patch('patched', { job: { payload: { other: null } } }, changed.headers.get('etag'));
  assert.deepEqual(replaced.json.job.payload, { other: null });
  const same = await patch('patched', {}, replaced.headers.get('etag'));
  assert.equal(same.headers.get('etag'), replaced.headers.get('etag'));
  assert.equal((await patch('nowhere', {}, etag)).status, 404);
});

const refused: [what: string, body: object, pointer: string][] = [
  ['no cadence', { job: { type: 'a' } }, '#/cron'],
  ['two cadences', { ...hourly, cron: '0 2 * * *' }, '#/cron'],
  ['a cron that cannot be read', { ...nightly, cron: '0 25 * * *' }, '#/cron'],
  ['a cron that can never fire', { ...nightly, cron: '0 0 30 2 *' }, '#/cron'],
  ['a cron of nothing', { ...nightly, cron: '' }, '#/cron'],
  ['a zone nobody knows', { ...nightly, timezone: 'Europe/Madird' }, '#/timezone'],
  [
    'jitter beyond the gap of a cron',
    { ...nightly, cron: '* * * * *', jitter_seconds: 61 },
    '#/jitter_seconds',
  ],
  ['no job', { every_seconds: 60 }, '#/job'],
  ['an interval of nothing', { ...hourly, every_seconds: 0 }, '#/every_seconds'],
  ['an interval beyond a year', { ...hourly, every_seconds: 31_622_401 }, '#/every_seconds'],
  ['a negative limit', { ...hourly, max_lateness_seconds: -1 }, '#/max_lateness_seconds'],
  ['an absurd limit', { ...hourly, max_catch_up: 1_001 }, '#/max_catch_up'],
  ['jitter beyond a day', { ...hourly, jitter_seconds: 86_401 }, '#/jitter_seconds'],
  ['jitter beyond the gap', { ...hourly, jitter_seconds: 3_601 }, '#/jitter_seconds'],
  ['an unknown policy', { ...hourly, misfire: 'fire_some' }, '#/misfire'],
  ['an unknown member', { ...hourly, run_at: '2026-01-01T00:00:00Z' }, '#/run_at'],
  [
    'an end before the start',
    { ...hourly, starts_at: '2030-01-01T00:00:00Z', ends_at: '2029-01-01T00:00:00Z' },
    '#/ends_at',
  ],
  ['a job of no type', { ...hourly, job: {} }, '#/job/type'],
  [
    'a job with a moment of its own',
    { ...hourly, job: { type: 'a', delay_seconds: 5 } },
    '#/job/delay_seconds',
  ],
  [
    'a job with a backoff that cannot be',
    { ...hourly, job: { type: 'a', backoff: { strategy: 'list' } } },
    '#/job/backoff/delays_seconds',
  ],
  [
    'a job whose target may not be reached',
    { ...hourly, job: { type: 'a', target: { url: 'http://10.0.0.1/' } } },
    '#/job/target/url',
  ],
];

for (const [what, body, pointer] of refused) {
  test(`refuses ${what}, points at it and stores nothing`, async () => {
    const answer = await put('refused', body);
    assert.equal(answer.status, 422, JSON.stringify(answer.json));
    assert.equal(answer.json.code, 'validation-failed');
    assert.equal(answer.json.errors[0].pointer, pointer);
    assert.equal(await keptOf('refused'), undefined);
  });
}

test('a fault of a cron says which field, its value and what can be written', async () => {
  const { detail } = (await put('refused', { ...nightly, cron: '0 25 * * *' })).json.errors[0];
  assert.match(detail, /hour.*25.*0 to 23/);
});

test('a fault can be read alone, with the value of what it is about', async () => {
  const detailOf = async (answer: Promise<{ json: { detail: string } }>) => (await answer).json.detail;
  assert.match(
    await detailOf(put('Nightly', hourly)),
    /^the name in the path is "Nightly"; it must be 1 to 63/,
  );
  assert.match(
    await detailOf(put('preview', hourly)),
    /^the name in the path is "preview"; it must be another/,
  );
  const none = await put('refused', { job: { type: 'a' } });
  assert.match(none.json.errors[0].detail, /^must be given where every_seconds is not/);
  const etag = (await put('quoted', hourly)).headers.get('etag') as string;
  const bare = await put(
    'quoted',
    { ...hourly, every_seconds: 60 },
    { 'if-match': etag.replaceAll('"', '') },
  );
  assert.deepEqual([bare.status, bare.headers.get('etag')], [412, etag]);
  assert.match(bare.json.detail, /a tag has quotes; send the ETag as it came/);
});

test('null is the zone UTC, whether it is put or patched', async () => {
  const made = await put('zoneless', { ...nightly, timezone: null });
  assert.deepEqual([made.status, made.json.timezone], [201, 'UTC']);
  const madrid = await patch('zoneless', { timezone: 'Europe/Madrid' }, '*');
  assert.equal(madrid.json.timezone, 'Europe/Madrid');
  assert.equal((await patch('zoneless', { timezone: null }, '*')).json.timezone, 'UTC');
});

test('a forecast shows local time and offset, and what a clock change does', async () => {
  await put('forecast', nightly);
  const from = '2026-03-28T00:00:00Z';
  const stored = await get(`/v1/schedules/forecast/preview?count=3&from=${from}`);
  assert.equal(stored.status, 200);
  const told = stored.json.slots.map(({ slot, utc_offset, note }: Record<string, unknown>) => [
    ...[slot, utc_offset, note],
  ]);
  assert.deepEqual(told, [
    ['2026-03-28T01:00:00.000Z', '+01:00', null],
    ['2026-03-29T01:00:00.000Z', '+02:00', 'gap'],
    ['2026-03-30T00:00:00.000Z', '+02:00', null],
  ]);
  assert.deepEqual(stored.json.clock_changes, [
    { at: '2026-03-29T01:00:00.000Z', from_offset: '+01:00', to_offset: '+02:00' },
  ]);
  const unsaved = await post(`/v1/schedules/preview?count=3&from=${from}`, nightly);
  assert.deepEqual(unsaved.json, stored.json);
  assert.equal(
    (await get('/v1/schedules')).json.items.some(({ name }: { name: string }) => name === 'preview'),
    false,
  );
});

test('a forecast begins now, with the slot that is next, and H is that of the name', async () => {
  const hashed = { ...nightly, cron: 'H H * * *', jitter_seconds: 600 };
  const made = await put('hashed', hashed);
  const { slots } = (await get('/v1/schedules/hashed/preview')).json;
  assert.equal(slots.length, 10);
  assert.deepEqual([slots[0].slot, slots[0].due_at], [made.json.next_slot, made.json.next_due_at]);
  assert.deepEqual((await post('/v1/schedules/preview?name=hashed', hashed)).json.slots, slots);
  assert.notDeepEqual((await post('/v1/schedules/preview?name=other', hashed)).json.slots, slots);
});

test('a forecast refuses what PUT refuses, and counts that are none', async () => {
  const bad = { ...nightly, cron: '0 25 * * *' };
  assert.deepEqual(
    (await post('/v1/schedules/preview', bad)).json.errors,
    (await put('bad', bad)).json.errors,
  );
  for (const count of ['0', '101', 'x']) {
    assert.equal((await post(`/v1/schedules/preview?count=${count}`, nightly)).status, 422);
    assert.equal((await get(`/v1/schedules/hashed/preview?count=${count}`)).status, 422);
  }
  assert.equal((await get('/v1/schedules/nowhere/preview')).status, 404);
});

test('a payload beyond its limit and a name that is none are refused', async () => {
  const large = await put('large', { ...hourly, job: { type: 'a', payload: 'x'.repeat(300_000) } });
  assert.deepEqual([large.status, large.json.errors[0].pointer], [413, '#/job/payload']);
  for (const name of ['Nightly', 'preview', 'x'.repeat(64)]) {
    assert.equal((await put(name, hourly)).status, 404, name);
  }
});

test('pause and resume may be repeated and say what they did', async () => {
  const made = await put('paused', hourly);
  const paused = await post('/v1/schedules/paused/pause', { reason: 'bad deploy' });
  assert.deepEqual([paused.json.state, paused.json.pause_reason], ['paused', 'bad deploy']);
  const again = await post('/v1/schedules/paused/pause', { reason: 'another' });
  assert.deepEqual(again.json, paused.json);
  const changed = await put('paused', { ...hourly, every_seconds: 60 }, { 'if-match': '*' });
  assert.equal(changed.json.state, 'paused');
  assert.equal((await put('paused', hourly, { 'if-match': made.headers.get('etag') as string })).status, 412);
  const resumed = await post('/v1/schedules/paused/resume');
  assert.deepEqual(
    [resumed.json.state, resumed.json.paused_at, resumed.json.pause_reason],
    ['active', null, null],
  );
  assert.deepEqual((await post('/v1/schedules/paused/resume')).json, resumed.json);
  const { paused_at, resumed_at } = await keptOf('paused');
  assert.ok(paused_at <= resumed_at, 'the pause is remembered for slots that are judged later');
  for (const verb of ['pause', 'resume', 'trigger']) {
    assert.equal((await post(`/v1/schedules/nowhere/${verb}`)).status, 404);
  }
});

test('a trigger makes a job at once, also of a paused schedule, and the ledger says manual', async () => {
  const job = { type: 'byhand', queue: 'q', payload: { a: 1 }, tags: ['eu'] };
  await put('byhand', { ...hourly, job });
  await post('/v1/schedules/byhand/pause');
  const decided = errand.next('slot.decided');
  const fired = await post('/v1/schedules/byhand/trigger');
  assert.equal(fired.status, 202);
  const { id, queue, type, tags, schedule } = fired.json;
  assert.equal(fired.headers.get('location'), `/v1/jobs/${id}/status`);
  assert.deepEqual([queue, type, tags], ['q', 'byhand', ['eu']]);
  const { items } = (await get('/v1/schedules/byhand/runs')).json;
  const [{ slot, outcome, job_id, leader_term, lateness_ms }] = items;
  assert.deepEqual([items.length, outcome, job_id, leader_term, lateness_ms], [1, 'manual', id, null, 0]);
  assert.deepEqual([(await decided).outcome, (await decided).job_id], ['manual', id]);
  assert.notEqual(Date.parse(slot) % 1_000, 0);
  assert.deepEqual(schedule, { name: 'byhand', slot });
  assert.deepEqual((await keptOf('byhand')).open_jobs, [id]);
  const { last } = (await get('/v1/schedules/byhand')).json;
  assert.deepEqual(last, items[0]);
});

test('many triggers at once are as many slots, and one Idempotency-Key is one of them', async () => {
  await put('often', hourly);
  await put('other', hourly);
  const key = { 'idempotency-key': 'once' };
  const all = await Promise.all([
    ...Array.from({ length: 10 }, () => post('/v1/schedules/often/trigger')),
    post('/v1/schedules/often/trigger', undefined, key),
  ]);
  assert.equal(new Set(all.map(({ json }) => json.id)).size, 11);
  const replayed = await post('/v1/schedules/often/trigger', {}, key);
  assert.deepEqual([replayed.status, replayed.json.id], [202, all[10]?.json.id]);
  assert.equal(replayed.headers.get('idempotency-replayed'), 'true');
  assert.equal((await post('/v1/schedules/other/trigger', undefined, key)).status, 422);
  const { items } = (await get('/v1/schedules/often/runs')).json;
  assert.equal(new Set(items.map((run: { slot: string }) => run.slot)).size, 11);
});

test('however many slots were made by hand in a moment, the next one lies behind them and on none of the schedule', async () => {
  // Its own slots lie 5 ms beside whole seconds.
  await put('moment', { ...hourly, every_seconds: 1, starts_at: '2025-12-31T23:59:00.005Z' });
  const { id } = await keptOf('moment');
  const { rows } = await client.query(
    `insert into errand.slot (schedule_id, slot, due_at, outcome)
     select $1, date_trunc('second', errand.now()) + n * interval '1 ms', errand.now(), 'manual'
     from generate_series(0, 60003) n returning slot`,
    [id],
  );
  const newest = rows.at(-1).slot.getTime();
  const made: number[] = [];
  for (let n = 0; n < 3; n++) {
    const fired = await post('/v1/schedules/moment/trigger');
    assert.equal(fired.status, 202, JSON.stringify(fired.json));
    made.push(Date.parse(fired.json.schedule.slot) - newest);
  }
  assert.deepEqual(made, [1, 3, 4], 'without the one that ends in .005');
});

test('a trigger repeated under its key finds its job after the schedule was deleted, and after it was made anew', async () => {
  const key = { 'idempotency-key': 'of-the-deleted' };
  const trigger = (headers?: Record<string, string>) => post('/v1/schedules/outlived/trigger', {}, headers);
  await put('outlived', hourly);
  const { id } = (await trigger(key)).json;
  const repeated = async () => {
    const again = await trigger(key);
    return [again.status, again.json.id, again.headers.get('idempotency-replayed')];
  };
  await call('DELETE', '/v1/schedules/outlived', undefined, { 'if-match': '*' });
  assert.deepEqual(await repeated(), [202, id, 'true']);
  assert.equal((await trigger()).status, 404);
  assert.equal((await trigger({ 'idempotency-key': 'of-nobody' })).status, 404);
  await put('outlived', hourly);
  assert.deepEqual(await repeated(), [202, id, 'true']);
  assert.deepEqual((await get('/v1/schedules/outlived/runs')).json.items, []);
});

test('the ledger is shown page by page, by outcome and between two times', async () => {
  await put('ledger', hourly);
  const { id } = await keptOf('ledger');
  await client.query(
    `insert into errand.slot (schedule_id, slot, due_at, outcome, reason, term)
     select $1, s, s, (array['on_time', 'skipped'])[1 + n % 2]::errand.slot_outcome,
       case when n % 2 = 1 then 'paused'::errand.slot_reason end, 7
     from generate_series(0, 6) n cross join lateral (select timestamptz '2026-01-01Z' + n * interval '1 h') v(s)`,
    [id],
  );
  const walk = async (query: string) => {
    const seen: { slot: string }[] = [];
    for (let path: string | undefined = `/v1/schedules/ledger/runs?limit=2${query}`; path !== undefined; ) {
      const page = await get(path);
      assert.equal(page.status, 200);
      seen.push(...page.json.items);
      path = page.headers.get('link')?.match(/^<([^>]+)>; rel="next"$/)?.[1];
      assert.equal(page.json.next_cursor === null, path === undefined);
    }
    return seen.map(({ slot }) => new Date(slot).getUTCHours());
  };
  assert.deepEqual(await walk(''), [6, 5, 4, 3, 2, 1, 0]);
  assert.deepEqual(await walk('&outcome=skipped'), [5, 3, 1]);
  assert.deepEqual(await walk('&outcome=manual'), []);
  assert.deepEqual(await walk('&after=2026-01-01T02:00:00Z&before=2026-01-01T05:00:00Z'), [4, 3, 2]);
  const { next_cursor } = (await get('/v1/schedules/ledger/runs?limit=2')).json;
  const foreign = await get(`/v1/schedules/ledger/runs?outcome=skipped&cursor=${next_cursor}`);
  assert.deepEqual([foreign.status, foreign.json.code], [400, 'cursor-invalid']);
  assert.equal((await get('/v1/schedules/nowhere/runs')).status, 404);
});

test('a schedule deleted with its version is gone, and one of the same name begins anew', async () => {
  const etag = (await put('deleted', hourly)).headers.get('etag') as string;
  await post('/v1/schedules/deleted/trigger');
  const remove = (headers: Record<string, string>) =>
    call('DELETE', '/v1/schedules/deleted', undefined, headers);
  assert.equal((await remove({})).status, 428);
  assert.equal((await remove({ 'if-match': '"0.0"' })).status, 412);
  const gone = await remove({ 'if-match': etag });
  assert.deepEqual([gone.status, gone.json], [204, '']);
  assert.equal((await remove({ 'if-match': etag })).status, 404);
  assert.equal((await put('deleted', hourly)).status, 201);
  assert.equal((await remove({ 'if-match': etag })).status, 412, 'it is another one');
  assert.deepEqual((await get('/v1/schedules/deleted/runs')).json.items, []);
});

test('schedules are listed by name, without payloads, page by page and by state', async () => {
  for (const name of ['list.b', 'list.a', 'list.c']) {
    await put(name, { ...hourly, job: { type: 'listed', payload: { secret: 1 } } });
  }
  await post('/v1/schedules/list.c/pause');
  await put('list.d', { ...hourly, ends_at: '2020-01-01T00:00:00Z' });
  const walk = async (query: string) => {
    const seen: { name: string; job: object }[] = [];
    for (let path: string | undefined = `/v1/schedules?limit=2${query}`; path !== undefined; ) {
      const page = await get(path);
      seen.push(...page.json.items);
      path = page.headers.get('link')?.match(/^<([^>]+)>; rel="next"$/)?.[1];
    }
    assert.ok(seen.every(({ job }) => !('payload' in job)));
    return seen.map(({ name }) => name).filter((name) => name.startsWith('list.'));
  };
  assert.deepEqual(await walk(''), ['list.a', 'list.b', 'list.c', 'list.d']);
  assert.deepEqual(await walk('&state=active'), ['list.a', 'list.b']);
  assert.deepEqual(await walk('&state=paused'), ['list.c']);
  const alone = (await get('/v1/schedules/list.a')).json;
  const { items } = (await get('/v1/schedules')).json;
  const { payload: _, ...job } = alone.job;
  assert.deepEqual(
    items.find(({ name }: { name: string }) => name === 'list.a'),
    { ...alone, job },
  );
});

test('nobody leads where no dispatcher runs, and a leader is named', async () => {
  const nobody = { holder: null, term: null, since: null, age_seconds: null, until: null, left_ms: null };
  assert.deepEqual((await get('/v1/leader')).json, nobody);
  await client.query(
    `insert into errand.leader (room, term, holder, length, since, until)
     values ('dispatcher', 17, 'a:1', '1 min', now() - interval '40 s', now() + interval '1 min')`,
  );
  const { holder, term, age_seconds, left_ms } = (await get('/v1/leader')).json;
  assert.deepEqual([holder, term], ['a:1', '17']);
  assert.ok(age_seconds >= 40 && age_seconds < 50 && Number.isInteger(left_ms));
  assert.ok(left_ms > 50_000 && left_ms <= 60_000);
  await client.query('delete from errand.leader');
});

test('the paths say what can be done with them', async () => {
  const allow = async (path: string) => (await call('OPTIONS', path)).headers.get('allow');
  assert.equal(await allow('/v1/schedules'), 'GET, HEAD, OPTIONS');
  const head = await fetch(`${errand.url}/v1/schedules/defaults`, { method: 'HEAD' });
  assert.equal(head.status, 200);
  const one = await call('OPTIONS', '/v1/schedules/defaults');
  assert.deepEqual((one.headers.get('allow') ?? '').split(', ').sort(), [
    'DELETE',
    'GET',
    'HEAD',
    'OPTIONS',
    'PATCH',
    'PUT',
  ]);
  assert.equal(one.headers.get('accept-patch'), 'application/merge-patch+json, application/json');
});
