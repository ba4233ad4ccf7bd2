// One look for all who watch: each change is told, whatever is heard of it; nobody looks when nobody watches.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Watch } from '../../src/actions/watch.ts';
import { until } from '../support/until.ts';

function aWatch(mostStreams = 10) {
  const versions = new Map<string, number>();
  const looks: string[][] = [];
  const errors: unknown[] = [];
  const fault: { now: Error | null } = { now: null };
  const watch = new Watch({
    look: async (ids) => {
      looks.push(ids);
      if (fault.now !== null) throw fault.now;
      return ids.map((id) => ({ id, version: String(versions.get(id) ?? 0) }));
    },
    mostStreams,
    onError: (error) => errors.push(error),
  });
  return { watch, versions, looks, errors, fault };
}

const long = 5_000;

test('a change is found by looking; one that was heard of is found sooner', async () => {
  const { watch, versions } = aWatch();
  const watched = watch.watch('1');
  assert.equal(await watched.news(long), 'news', 'the first look cannot know what was seen');
  const began = performance.now();
  versions.set('1', 1);
  watch.hear(['1', '2']);
  assert.equal(await watched.news(long), 'news');
  assert.ok(performance.now() - began < 200);
  versions.set('1', 2);
  assert.equal(await watched.news(long), 'news');
  assert.equal(await watched.news(1), 'time');
  watched.close();
});

test('what is heard and is no change is not told', async () => {
  const { watch, looks } = aWatch();
  const watched = watch.watch('1');
  await watched.news(long);
  watch.hear(['1']);
  const before = looks.length;
  assert.equal(await watched.news(100), 'time');
  assert.ok(looks.length > before);
  watched.close();
});

test('a change before the first wait, or between two, is not missed', async () => {
  const { watch, versions, looks } = aWatch();
  const watched = watch.watch('1');
  await until(() => looks.length === 1, { everyMs: 1 });
  versions.set('1', 1);
  watch.hear(['1']);
  await until(() => looks.length === 2, { everyMs: 1 });
  assert.equal(await watched.news(0), 'news');
  watched.close();
});

test('all who watch a job are told, with one look for all jobs', async () => {
  const { watch, looks } = aWatch();
  const crowd = Array.from({ length: 900 }, (_, n) => watch.watch(String(n % 450)));
  const ends = await Promise.all(crowd.map((watched) => watched.news(long)));
  assert.ok(ends.every((end) => end === 'news'));
  assert.equal(looks.length, 1);
  assert.equal(looks[0]?.length, 450);
  assert.equal(watch.jobs, 450);
  for (const watched of crowd) watched.close();
  assert.equal(watch.jobs, 0);
});

test('many jobs are looked at in statements of bounded size', async () => {
  const { watch, looks } = aWatch();
  const crowd = Array.from({ length: 1_200 }, (_, n) => watch.watch(String(n)));
  await Promise.all(crowd.map((watched) => watched.news(long)));
  assert.deepEqual(
    looks.map((ids) => ids.length),
    [500, 500, 200],
  );
  for (const watched of crowd) watched.close();
});

test('nobody looks when nobody watches', async () => {
  const { watch, looks } = aWatch();
  const watched = watch.watch('1');
  await watched.news(long);
  watched.close();
  watch.hear(['1']);
  const other = watch.watch('2');
  await other.news(long);
  assert.deepEqual(looks, [['1'], ['2']]);
  other.close();
});

test('a look that fails is told to operators, and the next one finds what it missed', async () => {
  const { watch, versions, errors, fault } = aWatch();
  const watched = watch.watch('1');
  await watched.news(long);
  fault.now = new Error('away');
  versions.set('1', 1);
  watch.hear(['1']);
  assert.equal(await watched.news(200), 'time');
  assert.equal(errors.length, 1);
  fault.now = null;
  assert.equal(await watched.news(long), 'news');
  watched.close();
});

test('who goes away is let go, and who closes ends its own wait', async () => {
  const { watch } = aWatch();
  const watched = watch.watch('1');
  await watched.news(long);
  const gone = new AbortController();
  const waiting = watched.news(long, gone.signal);
  gone.abort();
  assert.equal(await waiting, 'gone');
  assert.equal(await watched.news(long, gone.signal), 'gone');
  const other = watched.news(long);
  watched.close();
  assert.equal(await other, 'gone');
});

test('streams are counted, and closing one twice gives one place back', () => {
  const { watch } = aWatch(2);
  const [one] = [watch.stream('1', () => {}), watch.stream('1', () => {})];
  assert.throws(() => watch.stream('1', () => {}), { slug: 'stream-limit' });
  one?.close();
  one?.close();
  assert.equal(watch.streams, 1);
  watch.stream('2', () => {}).close();
});

test('a drain ends every wait, tells every stream, and refuses new ones', async () => {
  const { watch } = aWatch();
  let told = 0;
  const stream = watch.stream('1', () => told++);
  const watched = watch.watch('1');
  await Promise.all([stream.news(long), watched.news(long)]);
  const waits = [stream.news(long), watched.news(long)];
  watch.drain();
  assert.deepEqual(await Promise.all(waits), ['drained', 'drained']);
  assert.equal(told, 1);
  assert.equal(await watch.watch('2').news(long), 'drained');
  assert.throws(() => watch.stream('1', () => {}), { slug: 'draining' });
});
