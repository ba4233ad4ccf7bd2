// Lists on the wire: the form of a page, the way to the next one, and what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, problemOf, send, serve, type WireAnswer } from '../support/serve.ts';

interface Listed {
  items: Record<string, unknown>[];
  next_cursor: string | null;
}

const pageOf = (answer: WireAnswer) => JSON.parse(answer.body) as Listed;

/** The path in `Link`, as a client follows it. */
function nextOf(answer: WireAnswer): string | undefined {
  return answer.headers.link?.match(/^<([^>]+)>; rel="next"$/)?.[1];
}

test('a job looks in a list as it does when it is read alone', async () => {
  const { port, jobs } = await serve();
  const error = { class: 'poison', source: 'handler', error: 'no' } as const;
  const ids = [
    jobs.add({ type: 'a', tags: ['eu'] }),
    jobs.add({ type: 'a', state: 'dead', ...error }),
    jobs.add({ type: 'b', state: 'succeeded' }, 'null', '[1]'),
  ];
  const answer = await get(port, '/v1/jobs');
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['content-type'], 'application/json');
  assert.equal(answer.headers['cache-control'], 'no-store');
  const { items, next_cursor } = pageOf(answer);
  assert.equal(next_cursor, null);
  assert.equal(answer.headers.link, undefined);
  const alone = await Promise.all(ids.toReversed().map((id) => get(port, `/v1/jobs/${id}`)));
  assert.deepEqual(
    items,
    alone.map((one) => JSON.parse(one.body)),
  );
  assert.equal((await send(port, { method: 'HEAD', path: '/v1/jobs' })).status, 200);
});

test('the link and the cursor lead through every page, with the same filters, to the end', async () => {
  const { port, jobs } = await serve();
  const odd = 'ünder & over=1';
  const wanted = Array.from({ length: 7 }, () => jobs.add({ type: 'a', tags: [odd] })).reverse();
  jobs.add({ type: 'a' });
  const seen: unknown[] = [];
  let path: string | undefined = `/v1/jobs?tag=${encodeURIComponent(odd)}&type=a&limit=3`;
  let pages = 0;
  while (path !== undefined) {
    const answer = await get(port, path);
    const { items, next_cursor } = pageOf(answer);
    path = nextOf(answer);
    assert.equal(path === undefined, next_cursor === null);
    if (path !== undefined) {
      const query = new URL(path, 'http://x').searchParams;
      assert.deepEqual(Object.fromEntries(query), { tag: odd, type: 'a', limit: '3', cursor: next_cursor });
    }
    seen.push(...items.map((item) => item.id));
    pages += 1;
  }
  assert.deepEqual(seen, wanted);
  assert.equal(pages, 3);
});

test('the size of a page may change from one to the next', async () => {
  const { port, jobs } = await serve();
  const ids = Array.from({ length: 5 }, () => jobs.add({ type: 'a' })).reverse();
  const { next_cursor } = pageOf(await get(port, '/v1/jobs?limit=1'));
  const rest = pageOf(await get(port, `/v1/jobs?limit=200&cursor=${next_cursor}`));
  assert.deepEqual(
    rest.items.map((item) => item.id),
    ids.slice(1),
  );
});

test('a page holds 50 jobs unless said otherwise', async () => {
  const { port, jobs } = await serve();
  for (let n = 0; n < 51; n += 1) jobs.add({ type: 'a' });
  assert.equal(pageOf(await get(port, '/v1/jobs')).items.length, 50);
});

const refused: [query: string, pointer: string][] = [
  ['limit=0', '#/limit'],
  ['limit=201', '#/limit'],
  ['limit=', '#/limit'],
  ['limit=1e1', '#/limit'],
  ['limit=-1', '#/limit'],
  ['limit=2&limit=3', '#/limit'],
  ['state=done', '#/state'],
  ['state=queued,running', '#/state'],
  ['queue=Mails', '#/queue'],
  ['queue=', '#/queue'],
  ['type=%20', '#/type'],
  ['tag=', '#/tag'],
  ['tag=%00', '#/tag'],
  [`tag=${'x'.repeat(64)}`, '#/tag'],
  ['tag=a&tag=b', '#/tag'],
  ['error_class=bad', '#/error_class'],
  ['created_after=yesterday', '#/created_after'],
  ['created_after=2026-01-02T03:04:05', '#/created_after'],
  ['created_before=2026-13-02T03:04:05Z', '#/created_before'],
  ['order=id', '#/order'],
  ['include=payload', '#/include'],
];

for (const [query, pointer] of refused) {
  test(`refuses ?${query.slice(0, 40)} and names the parameter`, async () => {
    const { port } = await serve();
    const answer = await get(port, `/v1/jobs?${query}`);
    assert.equal(answer.status, 422);
    const problem = problemOf(answer);
    assert.equal(problem.code, 'validation-failed');
    const pointers = (problem.errors as { pointer: string }[]).map((fault) => fault.pointer);
    assert.deepEqual([...new Set(pointers)], [pointer]);
  });
}

test('a cursor that is damaged, empty, foreign or of other filters is refused', async () => {
  const { port, jobs } = await serve();
  for (let n = 0; n < 3; n += 1) jobs.add({ type: 'a', queue: 'q' });
  const { next_cursor: cursor } = pageOf(await get(port, '/v1/jobs?queue=q&limit=1'));
  const paths = [
    `/v1/jobs?limit=1&cursor=${cursor}`,
    `/v1/jobs?queue=other&cursor=${cursor}`,
    `/v1/jobs?queue=q&type=a&cursor=${cursor}`,
    `/v1/jobs?queue=q&state=queued&cursor=${cursor}`,
    `/v1/jobs?queue=q&cursor=${cursor?.slice(0, -1)}`,
    `/v1/jobs?queue=q&cursor=`,
    `/v1/jobs?queue=q&cursor=x`,
    `/v1/jobs?queue=q&cursor=%00`,
  ];
  for (const path of paths) {
    const answer = await get(port, path);
    assert.equal(answer.status, 400, path);
    assert.equal(problemOf(answer).code, 'cursor-invalid', path);
  }
  assert.equal((await get(port, `/v1/jobs?queue=q&cursor=${cursor}`)).status, 200);
});

test('a parameter sent twice and a + that became a blank are told as that', async () => {
  const { port } = await serve();
  const told: [string, string][] = [
    ['/v1/jobs?state=queued&state=dead', '#/state was sent twice; send it once'],
    ['/v1/jobs?limit=1&limit=2', '#/limit was sent twice; send it once'],
    ['/v1/jobs/1/events?limit=1&limit=2', '#/limit was sent twice; send it once'],
    [
      '/v1/jobs?created_after=2026-01-02T03:04:05+01:00',
      '#/created_after must be an RFC 3339 time with an offset, such as 2026-01-02T03:04:05Z; a + in a query is %2B',
    ],
  ];
  for (const [path, detail] of told) {
    const answer = await get(port, path);
    assert.deepEqual([answer.status, problemOf(answer).detail], [422, detail], path);
  }
});

test('filters go together, and what nobody has is an empty page, never 404', async () => {
  const { port, jobs } = await serve();
  const wanted = jobs.add({
    type: 'a',
    queue: 'q',
    tags: ['eu'],
    state: 'dead',
    class: 'lost',
    source: 'errand',
  });
  jobs.add({ type: 'a', queue: 'q', tags: ['eu'], state: 'dead', class: 'timeout', source: 'errand' });
  jobs.add({ type: 'b', queue: 'q', tags: ['eu'], state: 'dead', class: 'lost', source: 'errand' });
  const query = 'queue=q&type=a&tag=eu&state=dead&error_class=lost&created_after=2020-01-01T00:00:00%2B02:00';
  assert.deepEqual(
    pageOf(await get(port, `/v1/jobs?${query}`)).items.map((item) => item.id),
    [wanted],
  );
  for (const none of [
    'queue=nobody',
    'type=nobody',
    'tag=nobody',
    'state=blocked',
    'created_before=1970-01-01T00:00:00Z',
  ]) {
    const answer = await get(port, `/v1/jobs?${none}`);
    assert.equal(answer.status, 200, none);
    assert.deepEqual(pageOf(answer), { items: [], next_cursor: null }, none);
  }
});
