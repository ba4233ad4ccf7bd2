// Shows who did what: a page as JSON, or as lines for whoever carries the audit elsewhere.
// Invariant: both forms have the same rows, and both go on behind `Link`.
// Next room: actions/audit.ts.
import { z } from 'zod';
import type { Actions } from '../actions/actions.ts';
import { preferred } from '../domain/media-choice.ts';
import { Problem } from '../domain/problem.ts';
import { headerOf, sendJson, sendText } from './answer.ts';
import { linkNext, nextLink } from './page.ts';
import { type Route, refusals, storeFaults } from './route.ts';
import { AuditList, AuditQuery } from './schemas/audit.ts';

const forms = ['application/json', 'application/x-ndjson'] as const;

/** `GET /v1/audit`. */
export function listAudit({ audit }: Actions): Route<{ Querystring: AuditQuery }> {
  return {
    config: { headers: ['Accept'] },
    schema: {
      operationId: 'listAudit',
      summary: 'Read what operators did',
      description:
        'The newest first. With `Accept: application/x-ndjson` each row is a line, and `Link` alone says where it goes ' +
        'on. Follow it until there is none: a page may be short, even empty.',
      tags: ['operations'],
      querystring: AuditQuery,
      response: {
        200: {
          description: 'A page of the audit.',
          headers: nextLink,
          content: {
            'application/json': { schema: AuditList },
            'application/x-ndjson': { schema: z.string() },
          },
        },
        ...refusals(...storeFaults, 'cursor-invalid', 'not-acceptable', 'validation-failed'),
      },
    },
    async handler(request, reply) {
      const form = preferred(headerOf(request, 'accept'), forms);
      if (form === null) {
        throw new Problem('not-acceptable', {
          detail: `accept names neither of the two forms; send ${forms.join(' or ')}`,
        });
      }
      const { limit, cursor, ...filter } = request.query;
      const page = await audit(filter, limit, cursor);
      linkNext(reply, '/v1/audit', { ...request.query, cursor: page.next_cursor });
      if (form === 'application/json') return sendJson(reply, 200, JSON.stringify(page));
      return sendText(reply.code(200), form, page.items.map((row) => `${JSON.stringify(row)}\n`).join(''));
    },
  };
}
