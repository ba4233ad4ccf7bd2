// Why this room exists: the promise of the whole on real data: an import over jobs ends exact although everything is killed.
// Next room: import-core.ts; test/drills/import.ts does the same with all the cities.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cloneDatabase } from '../support/postgres.ts';
import { python, runImport } from './import-core.ts';

test('imports 5,000 cities once each although service and worker are killed with -9 half-way', {
  skip: python === null && 'python3 is not on PATH',
  timeout: 60_000,
}, async (t) => {
  const [errand, app] = await Promise.all([cloneDatabase(), cloneDatabase()]);
  t.after(() => Promise.all([errand.drop(), app.drop()]));
  const facts = await runImport({
    databaseUrl: errand.url,
    appDatabaseUrl: app.url,
    cities: 5_000,
    slice: 50,
    kills: [0.5],
    limitMs: 40_000,
  });
  t.diagnostic(JSON.stringify(facts));
  assert.equal(facts.cities, 5_000);
  assert.equal(facts.slices, 100);
  // Neither too early nor too late, and with work in hand: otherwise the kill proves nothing.
  assert.ok(facts.at_kill.every((count) => count >= 2_500 && count < 4_500));
  const [interrupted = 0] = facts.interrupted;
  assert.ok(interrupted >= 1);
  assert.ok(facts.repeated >= interrupted);
});
