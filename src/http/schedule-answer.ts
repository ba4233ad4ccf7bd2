// How a schedule is written into an answer: its record with the payload as it came, its tag, or that there is none; and what
// the conditions of a change are held against.
// Invariant: every answer that holds a schedule has the tag by which it can be changed.
// Next room: schedules.ts, schedule-control.ts and schedule-preview.ts, which answer; answer.ts does the same for jobs.
import type { FastifyReply } from 'fastify';
import type { Schedules, WholeSchedule } from '../actions/schedules.ts';
import { Problem } from '../domain/problem.ts';
import { namesVersion, scheduleEtag, scheduleRecord, type Tagged } from '../domain/schedule-record.ts';
import { sendJson } from './answer.ts';
import type { Versioned } from './conditions.ts';
import { Schedule } from './schemas/schedule.ts';

/** The tag, as the document tells of it. */
export const etag = {
  ETag: {
    type: 'string',
    description:
      'The present state; as If-Match it stays good while the schedule runs, until somebody changes it.',
  },
} as const;

/** What `sendSchedule` sends, as the document tells of it. */
export const answered = { headers: etag, content: { 'application/json': { schema: Schedule } } } as const;

/** Sends the record of a schedule; `job` is its last member, and the payload the last of that. */
export function sendSchedule(reply: FastifyReply, status: number, facts: WholeSchedule): FastifyReply {
  reply.header('etag', scheduleEtag(facts));
  const record = JSON.stringify(scheduleRecord(facts));
  return sendJson(reply, status, `${record.slice(0, -2)},"payload":${facts.payload}}}`);
}

/** A schedule as it is; throws 404 where there is none. */
export async function existing(schedules: Schedules, name: string): Promise<WholeSchedule> {
  return present(await schedules.find(name), name);
}

/** What was found of a name; throws 404 where it is nothing. */
export function present<T>(found: T | undefined, name: string): T {
  if (found === undefined) throw noSchedule(name);
  return found;
}

/** A schedule as conditions see it. */
export function versionOf(name: string, facts: Tagged): Versioned {
  return {
    what: named(name),
    etag: scheduleEtag(facts),
    isNamed: (header) => namesVersion(header, facts),
  };
}

/** A schedule in the words of a refusal. */
export function named(name: string): string {
  return `schedule "${name}"`;
}

export function noSchedule(name: string): Problem {
  return new Problem('not-found', { detail: `there is no ${named(name)}; define it by PUT` });
}
