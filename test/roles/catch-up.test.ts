// The office changing hands while a day of slots is made up for, and a crowd of schedules due in one moment: each slot is
// decided once, by whoever leads.
// Next room: downtime.test.ts, the policies; office.test.ts, how the office is handed over.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { sql } from '../../src/store/sql.ts';
import { type Movable, mismatches, movable, moveTo } from '../support/movable.ts';
import { keepSchedule, ledgerOf } from '../support/schedules.ts';

const worlds: Movable[] = [];
after(async () => {
  for (const world of worlds) await world.end();
});

const morning = new Date('2026-06-01T06:00:00Z');
const nextMorning = new Date('2026-06-02T06:00:00Z');
const many = 24;
/** A slot every two minutes, all of which are made up for. */
const definition = { every_seconds: 120, misfire: 'fire_all', max_catch_up: 1_000 } as const;
const slots_of_a_day = 720;

/** A day behind, with nobody there yet. */
async function aDayBehind(): Promise<{ world: Movable; ids: number[] }> {
  const world = await movable(morning);
  worlds.push(world);
  const ids: number[] = [];
  for (let n = 0; n < many; n++) ids.push(await keepSchedule(world.db, `each-${n}`, { definition }));
  await world.put(nextMorning);
  return { world, ids };
}

/** Every slot of the day stands in the ledger once, with its job. */
async function assertWhole({ db }: Movable, ids: readonly number[]): Promise<void> {
  for (const id of ids) {
    const rows = await db.many(ledgerOf, [id]);
    assert.deepEqual(
      rows.map(({ slot }) => slot.getTime()),
      Array.from({ length: slots_of_a_day }, (_, n) => morning.getTime() + (n + 1) * 120_000),
    );
    const punctual = rows.filter(({ outcome }) => outcome !== 'caught_up').map(({ outcome }) => outcome);
    assert.deepEqual(punctual, ['late', 'late', 'on_time']);
  }
  assert.deepEqual(await db.many(mismatches), []);
}

const terms = sql<{ term: string }>`select distinct term from errand.slot order by term`;

test('a leader that stops in the middle of catching up leaves the rest to the next', async () => {
  const { world, ids } = await aDayBehind();
  const first = await world.start();
  const second = await world.start();
  await first.next('slot.decided');
  await first.stop();
  await moveTo(second, world.db, nextMorning);
  await assertWhole(world, ids);
  assert.deepEqual(
    (await world.db.many(terms)).map(({ term }) => term),
    ['1', '2'],
  );
});

test('an office that is taken away again and again in the middle of catching up doubles and loses nothing', async () => {
  const { world, ids } = await aDayBehind();
  const [one, other] = [await world.start(), await world.start()];
  let fenced = 0;
  for (const { events } of [one, other]) events.on('term.fenced', () => fenced++);
  const left = sql<{ n: number }>`select count(*)::int n from errand.schedule where next_due <= errand.now()`;
  for (let n = 0; n < 5 && (await world.db.one(left)).n > 0; n++) {
    await Promise.race([one.next('slot.decided'), other.next('slot.decided')]);
    await world.db.many(sql`update errand.leader set until = clock_timestamp()`);
  }
  await moveTo(one, world.db, nextMorning);
  await assertWhole(world, ids);
  assert.ok(fenced > 0, 'no leader was in the middle of it');
});

test('two thousand schedules that are due in one moment are fired by the move to it, with nothing late about them', async () => {
  const world = await movable(morning);
  worlds.push(world);
  const errand = await world.start();
  await world.db.many(
    sql`insert into errand.schedule (name, definition, payload, watermark, next_slot, next_due)
      select 'crowd-' || n, definition, payload, watermark, next_slot, $1::timestamptz
      from generate_series(1, 2000) n,
        (select * from errand.schedule where id = $2) s`,
    [
      nextMorning,
      await keepSchedule(world.db, 'crowd', {
        definition: { every_seconds: 86_400, starts_at: nextMorning.toISOString() },
      }),
    ],
  );
  await moveTo(errand, world.db, nextMorning);
  const told = sql<{ schedules: number; jobs: number; exact: number }>`
    select count(*)::int schedules, count(distinct job_id)::int jobs,
      count(*) filter (where outcome = 'on_time' and decided_at = $1 and slot = $1)::int exact from errand.slot`;
  assert.deepEqual(await world.db.one(told, [nextMorning]), { schedules: 2_001, jobs: 2_001, exact: 2_001 });
  assert.deepEqual(await world.db.many(mismatches), []);
});
