// The contract of the lease protocol for many leases in one call: each item is what a call for one lease would hold, with
// the id of the lease (docs/contract.md, Leases).
// Next room: http/many-leases.ts.
import { z } from 'zod';
import { jobStates } from '../../domain/job.ts';
import { RawJson } from '../../domain/json.ts';
import { most_items } from '../body.ts';
import { Completion, Failure, Heartbeat, LeaseExtension, Release } from './lease.ts';
import { Problem } from './problem.ts';

const lease = { id: z.string().max(200).describe('The id of the lease.') };

export const HeartbeatItem = Heartbeat.safeExtend(lease).meta({
  id: 'HeartbeatItem',
  description: 'A sign of life for one of many leases.',
});

export const CompletionItem = Completion.safeExtend(lease).meta({
  id: 'CompletionItem',
  description: 'The success of one of many jobs.',
});

export const FailureItem = Failure.safeExtend(lease).meta({
  id: 'FailureItem',
  description: 'The failure of one of many attempts.',
});

export const ReleaseItem = Release.safeExtend(lease).meta({
  id: 'ReleaseItem',
  description: 'Gives one of many jobs back unrun.',
});

/** What CompletionItem makes of a usual item; null: ask CompletionItem. It may take less, never more, as `usualJob`. */
export function usualCompletion(item: unknown): CompletionItem | null {
  if (item === null || typeof item !== 'object') return null;
  for (const member of Object.keys(item)) if (member !== 'id' && member !== 'result') return null;
  const { id, result } = item as Record<string, unknown>;
  if (typeof id !== 'string' || id.length > 200) return null;
  if (result === undefined) return { id };
  return result instanceof RawJson ? { id, result } : null;
}

export type HeartbeatItem = z.output<typeof HeartbeatItem>;
export type CompletionItem = z.output<typeof CompletionItem>;
export type FailureItem = z.output<typeof FailureItem>;
export type ReleaseItem = z.output<typeof ReleaseItem>;

function manyOf(item: z.ZodType, id: string, description: string) {
  return z
    .strictObject({ leases: z.array(item).min(1).max(most_items).describe('1 to 1000 leases.') })
    .meta({ id, description });
}

/** The bodies of calls for many leases. */
export const Heartbeats = manyOf(HeartbeatItem, 'Heartbeats', 'Signs of life.');
export const Completions = manyOf(CompletionItem, 'Completions', 'The success of jobs.');
export const Failures = manyOf(FailureItem, 'Failures', 'The failure of attempts.');
export const Releases = manyOf(ReleaseItem, 'Releases', 'Gives jobs back unrun.');

const job = { ...lease, job_id: z.string(), state: z.enum(jobStates) };

const Kept = LeaseExtension.extend(lease).meta({
  id: 'LeaseKept',
  description: 'How one of many leases stands.',
});

const Completed = z
  .object(job)
  .meta({ id: 'LeaseCompleted', description: 'One of many jobs, which has succeeded.' });

const Ended = z
  .object({ ...job, next_attempt_at: z.iso.datetime().nullable() })
  .meta({ id: 'LeaseEnded', description: 'What became of one of many jobs.' });

const Refused = z
  .object({
    id: z.string().nullable().describe('The id of the lease; null where none was sent.'),
    problem: Problem,
  })
  .meta({ id: 'LeaseRefused', description: 'Why a call for this lease alone would have been refused.' });

function answerOf(entry: z.ZodType, id: string) {
  return z
    .object({ leases: z.array(z.union([entry, Refused])) })
    .meta({ id, description: 'An entry for each lease, in the order of the call.' });
}

/** The answers: what a call for each lease alone would have been told. */
export const LeasesKept = answerOf(Kept, 'LeasesKept');
export const LeasesCompleted = answerOf(Completed, 'LeasesCompleted');
export const LeasesEnded = answerOf(Ended, 'LeasesEnded');
