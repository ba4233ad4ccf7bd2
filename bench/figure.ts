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

/** One row of the table of goals. */
export interface Goal {
  what: string;
  /** Whom it is a ratio to; absent: a figure of its own. */
  against?: string;
  at: 'least' | 'most';
  value: number;
  /** What would be better than good. */
  stretch?: number;
  unit: string;
  seen: Spread;
  /** Where it is known why it falls short: the reason, printed when it does. */
  short?: string;
}

export interface Figure {
  name: string;
  title: string;
  /** None: it is worth knowing, and that is all. */
  goals: Goal[];
  lines: Line[];
  setup: Record<string, string>;
  /** What was verified, in words. */
  checks: string[];
}

export type Profile = 'short' | 'long';

export interface FigureOptions {
  /** As the caller wishes; absent: as many as the figure needs. */
  rounds: number | undefined;
  profile: Profile;
  ground: Ground;
  /** The contestant that stands for Errand: itself, or one with a planted fault. */
  errand: string;
  say: (line: string) => void;
}

export function verdictOn({ at, value, stretch, seen }: Goal): 'stretch' | 'met' | 'missed' {
  const reaches = (bound: number) => (at === 'least' ? seen.median >= bound : seen.median <= bound);
  if (stretch !== undefined && reaches(stretch)) return 'stretch';
  return reaches(value) ? 'met' : 'missed';
}

/** A figure that can be taken, and whether it is one of the short profile, which ends within ten minutes. */
export interface Entry {
  isShort: boolean;
  take: (options: FigureOptions) => Promise<Figure>;
}
