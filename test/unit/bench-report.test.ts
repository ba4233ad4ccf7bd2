// Proves that the bench tells a verdict for each goal, and leaves out neither what falls short nor what could not be made.
// Next room: bench/report.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Goal } from '../../bench/figure.ts';
import { markdown, type Taken } from '../../bench/report.ts';

function taken(median: number, over: Partial<Goal> = {}): Taken {
  const seen = { median, min: median, max: median, rounds: 3 };
  const goal: Goal = { what: 'drain', against: 'a peer', at: 'least', value: 2, stretch: 3, unit: '×', seen };
  return {
    at: '2026-01-02T00:00:00.000Z',
    machine: { cores: 2, cpu: 'a cpu', memory_gib: 4, node: 'v24', postgres: '18' },
    figure: {
      name: 'drain',
      title: 'Drain',
      goals: [{ ...goal, ...over }],
      lines: [],
      setup: {},
      checks: [],
    },
  };
}

test('Each goal has its verdict', () => {
  assert.match(markdown([taken(3.5)]), /\| drain \| a peer \| ≥ 2 × .* \| met, stretch too \|/);
  assert.match(markdown([taken(2.5)]), /\| drain \| a peer \| ≥ 2 × .* \| met \|/);
  assert.match(markdown([taken(2.5, { at: 'most', stretch: 1 })]), /≤ 2 × .* \| \*\*missed\*\* \|/);
});

test('What falls short is told with its reason', () => {
  const page = markdown([taken(1, { short: 'the moon was full' })]);
  assert.match(page, /\*\*missed\*\*/);
  assert.match(page, /- Missed, drain against a peer: the moon was full\./);
});

test('A figure that could not be made is named beside those that were', () => {
  const page = markdown([taken(3)], { post: 'one job was lost' });
  assert.match(page, /No figure "post".*one job was lost/);
  assert.match(page, /## Drain/);
});
