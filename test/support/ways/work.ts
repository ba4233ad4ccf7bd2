// Why this room exists: the same work, whoever runs it, so that one suite can ask the same of every way of execution.
// Next room: handler, pull worker and target beside it, which run it; ways.ts, which starts them.

/** What a job of the suite asks for. */
export interface Work {
  do: 'add' | 'fail_once' | 'hang' | 'hang_once';
  numbers: number[];
  /** Whom to tell that a start began or was told to stop. */
  tell: string;
}

/** Something that happened to a start. */
export interface Told {
  what: 'began' | 'stopped';
  job_id: string;
  attempt: number;
}

/** Does the work of one start; it hangs until `signal` says stop. */
export async function work(
  { do: what, numbers, tell }: Work,
  start: { job_id: string; attempt: number },
  signal: AbortSignal,
): Promise<{ sum: number }> {
  const say = (told: Told['what']) =>
    fetch(tell, { method: 'POST', body: JSON.stringify({ what: told, ...start } satisfies Told) });
  await say('began');
  const isFirst = start.attempt === 1;
  if (what === 'fail_once' && isFirst) throw new Error('not at the first attempt');
  if (what === 'hang' || (what === 'hang_once' && isFirst)) {
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
    await say('stopped');
    throw new Error('told to stop');
  }
  return { sum: numbers.reduce((sum, number) => sum + number, 0) };
}
