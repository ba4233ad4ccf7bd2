// Lists jobs: one page, and in `Link` the way to the next.
// Invariant: a job looks here as it does when it is read alone.
// Next room: actions/list.ts.
import type { Actions } from '../actions/actions.ts';
import { recordText } from '../domain/record.ts';
import { sendJson } from './answer.ts';
import { linkNext, nextLink } from './page.ts';
import { type Route, refusals, storeFaults } from './route.ts';
import { JobList, ListQuery } from './schemas/list.ts';

/** `GET /v1/jobs`. */
export function listJobs({ list }: Actions): Route<{ Querystring: ListQuery }> {
  return {
    schema: {
      operationId: 'listJobs',
      summary: 'List jobs',
      description:
        'The newest first; `queued` as they will run, `running` by lease, `scheduled` and `retrying` by the time they ' +
        'are due, unless a tag is asked for. Follow `next_cursor` until it is null: a page may be short, even empty.',
      tags: ['jobs'],
      querystring: ListQuery,
      response: {
        200: {
          description: 'A page of jobs.',
          headers: nextLink,
          content: { 'application/json': { schema: JobList } },
        },
        ...refusals(...storeFaults, 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler(request, reply) {
      const { limit, cursor, ...filter } = request.query;
      const { items, next_cursor } = await list.page(filter, limit, cursor);
      linkNext(reply, '/v1/jobs', { ...filter, limit, cursor: next_cursor });
      const jobs = items.map(recordText).join(',');
      return sendJson(reply, 200, `{"items":[${jobs}],"next_cursor":${JSON.stringify(next_cursor)}}`);
    },
  };
}
