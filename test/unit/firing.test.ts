// What becomes of a slot, policy by policy: punctual, late, missed, overlapping, paused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type DueSlot, isFired, judge, type Outlook, toldAt, type Verdict } from '../../src/domain/firing.ts';
import { misfires, overlaps, type Policy } from '../../src/domain/schedule.ts';

const now = new Date('2026-06-01T12:00:00Z');
const policy: Policy = {
  misfire: 'fire_latest',
  max_lateness_seconds: 60,
  max_catch_up: 2,
  overlap: 'allow',
};

/** A slot that was due so many seconds ago. */
function ago(seconds: number): DueSlot {
  const slot = new Date(now.getTime() - seconds * 1_000);
  return { slot, due_at: slot };
}

function outlook(slots: readonly DueSlot[], over: Partial<Outlook> = {}): Outlook {
  const room = { verdicts: 1_000, jobs: 1_000 };
  return { now, slots, folded: null, held: null, open: 0, room, paused_at: null, resumed_at: null, ...over };
}

/** `300 skipped misfire`: seconds ago, outcome, reason. */
function told(verdicts: readonly Verdict[]): string[] {
  return verdicts.map(({ slot, outcome, reason }) =>
    [(now.getTime() - slot.getTime()) / 1_000, outcome, ...(reason === null ? [] : [reason])].join(' '),
  );
}

const judged = (over: Partial<Policy>, outlook: Outlook) =>
  told(judge({ ...policy, ...over }, outlook).verdicts);

test('a slot is on time within a second, and late up to the lateness that is allowed', () => {
  assert.deepEqual(judged({}, outlook([ago(60), ago(2), ago(1), ago(0)])), [
    '60 late',
    '2 late',
    '1 on_time',
    '0 on_time',
  ]);
});

test('lateness counts from when a slot is due, not from the slot', () => {
  const slot = { slot: ago(90).slot, due_at: ago(0.5).slot };
  assert.deepEqual(judged({ misfire: 'skip' }, outlook([slot])), ['90 on_time']);
});

test('of missed slots only the latest is fired, and none when a newer one is', () => {
  assert.deepEqual(judged({}, outlook([ago(300), ago(200), ago(100)])), [
    '300 skipped misfire',
    '200 skipped misfire',
    '100 caught_up',
  ]);
  assert.deepEqual(judged({}, outlook([ago(300), ago(200), ago(10)])), [
    '300 skipped misfire',
    '200 skipped misfire',
    '10 late',
  ]);
});

test('all missed slots are caught up, the newest first to be so', () => {
  assert.deepEqual(judged({ misfire: 'fire_all' }, outlook([ago(300), ago(200), ago(100), ago(0)])), [
    '300 skipped misfire',
    '200 caught_up',
    '100 caught_up',
    '0 on_time',
  ]);
});

test('missed slots are skipped where the policy says so', () => {
  assert.deepEqual(judged({ misfire: 'skip' }, outlook([ago(300), ago(61), ago(60)])), [
    '300 skipped misfire',
    '61 skipped misfire',
    '60 late',
  ]);
});

test('a slot is skipped while a job of the schedule is open', () => {
  assert.deepEqual(judged({ overlap: 'skip' }, outlook([ago(0)], { open: 1 })), ['0 skipped overlap']);
  assert.deepEqual(judged({ overlap: 'skip' }, outlook([ago(20), ago(10)])), [
    '20 late',
    '10 skipped overlap',
  ]);
});

test('one slot waits for the open job, the others are skipped', () => {
  const first = judge({ ...policy, overlap: 'queue_one' }, outlook([ago(20), ago(10)], { open: 1 }));
  assert.deepEqual(first.held, ago(20));
  assert.deepEqual(told(first.verdicts), ['10 skipped overlap']);
  const waiting = outlook([], { held: ago(20), open: 1 });
  assert.deepEqual(judge({ ...policy, overlap: 'queue_one' }, waiting), {
    verdicts: [],
    held: ago(20),
    cancels: false,
  });
  assert.deepEqual(judged({ overlap: 'queue_one' }, { ...waiting, open: 0 }), ['20 late overlap']);
});

test('a slot that waited is fired however long that took, and the next one waits for it', () => {
  const { verdicts, held } = judge(
    { ...policy, overlap: 'queue_one', misfire: 'skip' },
    outlook([ago(0)], { held: ago(3_600) }),
  );
  assert.deepEqual(told(verdicts), ['3600 late overlap']);
  assert.deepEqual(held, ago(0));
});

test('the open job is asked to stop, and only the last of several slots takes its place', () => {
  const { verdicts, cancels } = judge(
    { ...policy, overlap: 'cancel_running' },
    outlook([ago(20), ago(0)], { open: 1 }),
  );
  assert.deepEqual(told(verdicts), ['20 skipped overlap', '0 on_time']);
  assert.equal(cancels, true);
  const idle = judge({ ...policy, overlap: 'cancel_running' }, outlook([ago(0)]));
  assert.equal(idle.cancels, false);
});

test('no job is asked to stop for a slot that is skipped', () => {
  const missed = outlook([ago(300)], { open: 1 });
  assert.equal(judge({ ...policy, overlap: 'cancel_running', misfire: 'skip' }, missed).cancels, false);
});

test('slots of a pause are skipped as such, those before and after it are not', () => {
  const slots = [ago(50), ago(40), ago(30), ago(20)];
  const pause = { paused_at: ago(45).slot, resumed_at: ago(25).slot };
  assert.deepEqual(judged({}, outlook(slots, pause)), [
    '50 late',
    '40 skipped paused',
    '30 skipped paused',
    '20 late',
  ]);
  assert.deepEqual(judged({}, outlook([ago(1)], { paused_at: ago(1).slot })), ['1 skipped paused']);
});

test('a schedule that is paused fires nothing, not even what was due before', () => {
  const late = outlook([ago(500), ago(50), ago(40)], { paused_at: ago(45).slot });
  assert.deepEqual(judged({ misfire: 'fire_all' }, late), [
    '500 skipped paused',
    '50 skipped paused',
    '40 skipped paused',
  ]);
});

test('a slot that waited through a pause that is over is fired', () => {
  const pause = { paused_at: ago(30).slot, resumed_at: ago(20).slot };
  const { verdicts } = judge({ ...policy, overlap: 'queue_one' }, outlook([], { held: ago(40), ...pause }));
  assert.deepEqual(told(verdicts), ['40 late overlap']);
});

test('a slot that waited obeys the policy that has come since', () => {
  const waiting = (open: number, ...slots: DueSlot[]) => outlook(slots, { held: ago(20), open });
  assert.deepEqual(judged({ overlap: 'allow' }, waiting(1)), ['20 late overlap']);
  assert.deepEqual(judged({ overlap: 'skip' }, waiting(1)), ['20 skipped overlap']);
  assert.deepEqual(judged({ overlap: 'skip' }, waiting(0)), ['20 late overlap']);
  assert.deepEqual(judged({ overlap: 'cancel_running' }, waiting(1, ago(0))), [
    '20 skipped overlap',
    '0 on_time',
  ]);
  assert.deepEqual(judged({ overlap: 'cancel_running' }, waiting(1)), ['20 late overlap']);
});

test('no more is judged than there is room for, and a slot beyond it does not wait yet', () => {
  const slots = [ago(50), ago(40), ago(30)];
  assert.deepEqual(judged({}, outlook(slots, { room: { verdicts: 2, jobs: 9 } })), ['50 late', '40 late']);
  assert.deepEqual(judged({}, outlook(slots, { room: { verdicts: 9, jobs: 1 } })), ['50 late']);
  const cut = judge({ ...policy, overlap: 'queue_one' }, outlook(slots, { room: { verdicts: 9, jobs: 1 } }));
  assert.deepEqual([told(cut.verdicts), cut.held], [['50 late'], null]);
});

test('what is written late is told as late', () => {
  const [verdict] = judge(policy, outlook([ago(0)])).verdicts;
  assert.ok(verdict);
  assert.equal(toldAt(verdict, new Date(now.getTime() + 1_000)).outcome, 'on_time');
  assert.equal(toldAt(verdict, new Date(now.getTime() + 1_001)).outcome, 'late');
  const [caught] = judge(policy, outlook([ago(100)])).verdicts;
  assert.equal(caught && toldAt(caught, new Date(now.getTime() + 5_000)).outcome, 'caught_up');
});

test('a slot that waits when the schedule is paused is skipped', () => {
  const { verdicts, held } = judge(
    { ...policy, overlap: 'queue_one' },
    outlook([], { held: ago(20), open: 1, paused_at: ago(10).slot }),
  );
  assert.deepEqual(told(verdicts), ['20 skipped paused']);
  assert.equal(held, null);
});

test('slots that are too many share one verdict with their number', () => {
  const folded = { from: ago(900).slot, through: ago(500).slot, count: 401 };
  const [first] = judge(policy, outlook([ago(0)], { folded })).verdicts;
  assert.deepEqual(first, {
    slot: folded.from,
    due_at: folded.from,
    through: folded.through,
    slots: 401,
    outcome: 'skipped',
    reason: 'misfire',
  });
  const paused = judge(policy, outlook([], { folded, paused_at: ago(1_000).slot })).verdicts;
  assert.equal(paused[0]?.reason, 'paused');
});

const anyPolicy = fc.record({
  misfire: fc.constantFrom(...misfires),
  overlap: fc.constantFrom(...overlaps),
  max_lateness_seconds: fc.integer({ min: 0, max: 600 }),
  max_catch_up: fc.integer({ min: 1, max: 5 }),
});
const moments = fc.uniqueArray(fc.integer({ min: 0, max: 1_000 }), { maxLength: 20 });

test('every slot gets one verdict or waits, in the order of time', () => {
  fc.assert(
    fc.property(anyPolicy, moments, fc.nat(3), fc.option(fc.nat(1_000)), (any, seconds, open, paused) => {
      const slots = seconds.sort((a, b) => b - a).map(ago);
      const paused_at = paused === null ? null : ago(paused).slot;
      const { verdicts, held } = judge(any, outlook(slots, { open, paused_at }));
      const seen = [...verdicts, ...(held === null ? [] : [held])].map(({ slot }) => slot.getTime());
      assert.deepEqual(
        seen.sort((a, b) => a - b),
        slots.map(({ slot }) => slot.getTime()),
      );
      const fired = verdicts.filter(isFired);
      if (any.overlap !== 'allow') assert.ok(fired.length <= 1, 'two jobs at once');
      const caught = verdicts.filter(({ outcome }) => outcome === 'caught_up');
      assert.ok(caught.length <= (any.misfire === 'fire_all' ? any.max_catch_up : 1));
    }),
  );
});

test('slots that are judged in two halves are judged as together, where jobs may overlap', () => {
  fc.assert(
    fc.property(anyPolicy, moments, fc.nat(20), ({ ...any }, seconds, cut) => {
      const slots = seconds.sort((a, b) => b - a).map(ago);
      const allowing = { ...any, overlap: 'allow' as const };
      const whole = judge(allowing, outlook(slots)).verdicts;
      const rest = judge(allowing, outlook(slots.slice(cut))).verdicts;
      assert.deepEqual(rest, whole.slice(cut));
    }),
  );
});
