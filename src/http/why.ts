// Explains one job: every reason that keeps it from its next step, and what would release it.
// Next room: actions/why.ts.
import type { Actions } from '../actions/actions.ts';
import { isTerminal } from '../domain/job.ts';
import { missing, sendJson } from './answer.ts';
import { type Route, refusals, storeFaults } from './route.ts';
import { JobParams } from './schemas/job.ts';
import { Why } from './schemas/why.ts';

/** `GET /v1/jobs/{id}/why`. */
export function explainJob({ why, inspect }: Actions): Route<{ Params: JobParams }> {
  return {
    schema: {
      operationId: 'explainJob',
      summary: 'Say what a job waits for',
      description:
        'Every cause that keeps it from its next step, the decisive one first, each with what would release it.',
      tags: ['jobs'],
      params: JobParams,
      response: {
        200: { description: 'Why it is where it is.', content: { 'application/json': { schema: Why } } },
        ...refusals(...storeFaults, 'not-found', 'job-archived'),
      },
    },
    async handler({ params: { id } }, reply) {
      const answer = await why(id);
      if (answer === undefined) return missing(inspect, id);
      const { facts, reasons } = answer;
      const { state, queue, type } = facts;
      return sendJson(
        reply,
        200,
        JSON.stringify({
          id,
          state,
          terminal: isTerminal(state),
          queue,
          type,
          cause: reasons[0]?.cause,
          reasons,
        }),
      );
    },
  };
}
