// What is served of our own series is what prom-client would serve: it counts beside them here.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Counter, Histogram, Registry } from 'prom-client';
import { Counts, Distributions } from '../../src/telemetry/series.ts';

test('a scrape reads as if prom-client had counted', async () => {
  const name = 'seconds';
  const about = { name, help: 'How long.', labelNames: ['route', 'status'], buckets: [0.1, 1, 10] } as const;
  const total = { name: 'seen_total', help: 'How many.', labelNames: ['kind'] } as const;
  const [ours, theirs] = [new Registry(), new Registry()];
  const seen = new Counts(ours, total);
  const seconds = new Distributions(ours, about);
  const expectedSeen = new Counter({ ...total, registers: [theirs] });
  const expected = new Histogram({ ...about, buckets: [...about.buckets], registers: [theirs] });
  for (const [route, status, value] of [
    ['/a', 200, 0.05],
    ['/a', 200, 0.1],
    ['/a', 200, 11],
    ['/a', 404, 1.5],
    ['/"b"', 200, 0],
  ] as const) {
    seconds.of(route, status).observe(value);
    expected.observe({ route, status }, value);
  }
  for (const kind of ['one', 'two', 'one']) {
    seen.of(kind).value++;
    expectedSeen.inc({ kind });
  }
  assert.equal(await ours.metrics(), await theirs.metrics());
});
