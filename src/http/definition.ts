// From what a caller sent to the schedule that is kept: the one way for all that define one.
// Invariants: what can be refused is refused here, before anything is stored: slots that cannot be, and a job that would
// itself be refused; header values stay where they are when something else is changed.
// Next room: actions/schedules.ts; schedules.ts, which answers.
import type { Wish } from '../actions/schedules.ts';
import { type Cadence, cadenceOf } from '../domain/cadence.ts';
import { CadenceFault } from '../domain/cadence-fault.ts';
import { checkJitter } from '../domain/jitter.ts';
import { RawJson } from '../domain/json.ts';
import { mergePatch } from '../domain/merge-patch.ts';
import { Problem } from '../domain/problem.ts';
import type { Definition } from '../domain/schedule.ts';
import { NewSchedule, type SchedulePatch, usualZone } from './schemas/definition.ts';
import { submissionOf, type Terms } from './submission.ts';
import { checked } from './validate.ts';

/** Makes of a schedule that was validated what is kept of it; throws `validation-failed`. */
export function wishOf({ job, timezone, ...rest }: NewSchedule, name: string, terms: Terms): Wish {
  const { payload, ...template } = job;
  const submission = submissionOf(
    { ...job, on_timeout: 'detach' },
    { idempotency: null, options: null },
    terms,
    '#/job',
  );
  const { target, callback, unique } = submission.options ?? {};
  const definition: Definition = {
    ...rest,
    timezone: timezone ?? usualZone,
    job: { ...template, target, callback, unique },
  };
  soundCadence(definition, name);
  return { definition, payload: payload?.text ?? 'null' };
}

/** What a schedule is to be once a patch has changed it; throws what the whole would be refused with. */
export function patchedWish(
  { definition, payload }: Wish,
  patch: SchedulePatch,
  name: string,
  terms: Terms,
): Wish {
  const whole = { ...definition, job: { ...definition.job, payload: new RawJson(payload) } };
  return wishOf(checked(NewSchedule, mergePatch(whole, patch)), name, terms);
}

/** The cadence of a definition, whose jitter fits it; throws `validation-failed`. What is kept may no longer be valid. */
export function soundCadence(definition: Definition, name: string): Cadence {
  try {
    const cadence = cadenceOf(definition, name);
    checkJitter(cadence, definition.jitter_seconds);
    return cadence;
  } catch (error) {
    if (!(error instanceof CadenceFault)) throw error;
    const { member, detail } = error;
    const pointer = `#/${member}`;
    throw new Problem('validation-failed', {
      detail: `${pointer} ${detail}`,
      errors: [{ pointer, code: 'schedule', detail }],
    });
  }
}
