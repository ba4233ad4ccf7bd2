// The form of every figure: what was compared, under which settings, the goal, and the checks without which a number
// means nothing.
// Invariant: a figure whose check fails is not made: the run throws instead of printing a rate.
// Next room: report.ts, which prints them.
import type { Ground } from './ground.ts';
import type { Spread } from './measure.ts';

/** One line of a figure's table. */
export interface Line {
  what: string;
  unit: string;
  spread: Spread;
}

export interface Figure {
  name: string;
  title: string;
  goal: { text: string; value: number; at: 'least' | 'most'; unit: string };
  /** What is held against the goal. */
  headline: Spread;
  lines: Line[];
  setup: Record<string, string>;
  /** What was verified, in words. */
  checks: string[];
}

export interface FigureOptions {
  rounds: number | undefined;
  ground: Ground;
  say: (line: string) => void;
}

export function isMet({ goal, headline }: Figure): boolean {
  return goal.at === 'least' ? headline.median >= goal.value : headline.median <= goal.value;
}
