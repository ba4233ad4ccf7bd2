// The contract of the roster: who takes work, and the ready jobs nobody takes (docs/contract.md, Workers).
// Next room: http/workers.ts.
import { z } from 'zod';
import { cursor, limit } from './page.ts';
import { name } from './scalars.ts';

/** The query of `GET /v1/workers`. */
export const WorkerQuery = z.strictObject({ limit, cursor });

/** A validated query. */
export type WorkerQuery = z.output<typeof WorkerQuery>;

const moment = z.iso.datetime();

/** One that takes work. */
export const Worker = z
  .object({
    name: z
      .string()
      .describe('As it calls itself; of a process of Errand: host, process id and a random part.'),
    kind: z
      .enum(['process', 'pull'])
      .describe('A process of Errand with handlers or pushes, or a pull worker.'),
    version: z.string().nullable().describe('As it told it; of a process: its release.'),
    queues: z.array(z.string()).describe('Queues it takes from; a `*` ends a beginning; empty: all.'),
    types: z.array(z.string()).describe('Types it runs; of a pull worker empty: all.'),
    pushes: z.boolean().describe('Whether it runs jobs that have a target.'),
    slots: z.int().describe('Most jobs it takes at once; of a pull worker the limit of its last call.'),
    running: z.int().describe('Jobs it holds a lease of.'),
    jobs: z
      .array(z.object({ id: z.string(), started_at: moment, lease_until: moment }))
      .describe('Up to 20 of them, those that have run longest first.'),
    since: moment.describe('Since when it is heard of without a pause of more than a minute.'),
    seen_at: moment.describe('When it was last heard of, to some ten seconds.'),
    present: z.boolean().describe('Whether it was heard of within the last minute.'),
  })
  .meta({ id: 'Worker', description: 'One that takes work.' });

/** A page of the roster. */
export const WorkerList = z
  .object({
    items: z.array(Worker),
    next_cursor: z.string().nullable().describe('The cursor of the next page; null at the end.'),
    unserved: z
      .array(z.object({ queue: name, type: name, queued: z.int() }))
      .describe('Ready jobs that nobody heard of within the last minute takes, a second old at most.'),
  })
  .meta({ id: 'WorkerList', description: 'A page of who takes work, and what nobody takes.' });
