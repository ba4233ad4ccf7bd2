// How far a job is suspected of ending the processes that run it. Its priority in a block says so: 0 to 9 a job beyond
// suspicion, 10 to 19 one that was lost at its last start, 20 to 29 one that was lost at its last two.
// Invariant: whoever was lost twice is held by one process at a time and alone, so the third loss convicts nobody else; what
// was lost once runs like any other, so the jobs of a process that died are taken up at once.
// Next room: heads.ts, which keeps the lines apart; store/endings.ts, where the same sum is made in SQL.

/** Where a job stands after it was lost. */
export function prioAfterLoss(prio: number): number {
  return Math.min(Math.floor(prio / 10) + 1, 2) * 10 + (prio % 10);
}

/** Whether a job is held alone. */
export function isHeldAlone(prio: number): boolean {
  return prio >= 20;
}
