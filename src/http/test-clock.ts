// GET and POST /test/clock: the clock of the test mode, read and moved. Only a process in that mode has these routes.
// Invariant: a move is answered after the chores of this process have run, so a test need not wait for what falls due.
// Next room: actions/test-clock.ts; docs/guides/testing.md.
import { z } from 'zod';
import type { TestClock } from '../actions/test-clock.ts';
import { sendJson } from './answer.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { moment } from './schemas/scalars.ts';

const most_seconds = 315_360_000;

const ClockChange = z
  .strictObject({
    now: moment.optional().describe('The time to go to. Not together with advance_seconds.'),
    advance_seconds: z
      .number()
      .min(0)
      .max(most_seconds)
      .optional()
      .describe('How far to go. Not together with now.'),
    frozen: z.boolean().optional().describe('Whether time stands still from then on; absent: as before.'),
  })
  .refine(({ now, advance_seconds }) => now === undefined || advance_seconds === undefined, {
    path: ['advance_seconds'],
    message: 'does not go together with now; send one of the two',
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), {
    message: 'says nothing; send now, advance_seconds or frozen',
  })
  .meta({ id: 'ClockChange', description: 'Where the clock is to go. It goes forward only.' });

type ClockChange = z.output<typeof ClockChange>;

const shown = {
  now: z.iso.datetime().describe('The time by which jobs are due.'),
  frozen: z.boolean().describe('Whether time stands still.'),
};
const Clock = z.object(shown).meta({ id: 'Clock', description: 'The clock of the test mode.' });
const MovedClock = z
  .object({
    ...shown,
    chores_done: z.boolean().describe('Whether all chores of this process have run since; false after 5 s.'),
  })
  .meta({ id: 'MovedClock', description: 'The clock after a move.' });

/** `GET /test/clock`. */
export function readClock(clock: TestClock): Route {
  return {
    schema: {
      operationId: 'readClock',
      summary: 'Read the clock of the test mode',
      tags: ['service'],
      response: {
        200: { description: 'What it shows.', content: { 'application/json': { schema: Clock } } },
        ...refusals(...storeFaults),
      },
    },
    handler: async (_request, reply) => sendJson(reply, 200, JSON.stringify(await clock.look())),
  };
}

/** `POST /test/clock`. */
export function moveClock(clock: TestClock): Route<{ Body: ClockChange }> {
  return {
    schema: {
      operationId: 'moveClock',
      summary: 'Move the clock of the test mode',
      tags: ['service'],
      body: ClockChange,
      response: {
        200: {
          description: 'What it shows now, after what has fallen due was seen to.',
          content: { 'application/json': { schema: MovedClock } },
        },
        ...refusals(...bodyFaults, ...storeFaults),
      },
    },
    handler: async ({ body }, reply) => sendJson(reply, 200, JSON.stringify(await clock.move(body))),
  };
}
