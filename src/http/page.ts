// A page of a list: in `Link` the way to the next, with the filters of this one.
// Invariant: who follows `Link` and who sends `next_cursor` with the same filters are answered alike.
// Next room: list.ts, schedules.ts and schedule-control.ts, which have lists.
import type { FastifyReply } from 'fastify';

/** The header, as the document of a list tells of it. */
export const nextLink = {
  Link: { type: 'string', description: 'The next page, `rel="next"`, if there is one.' },
} as const;

/** Says in `Link` where a list goes on, when it does. */
export function linkNext(
  reply: FastifyReply,
  path: string,
  { cursor, ...filters }: Readonly<Record<string, unknown>> & { cursor: string | null },
): void {
  if (cursor === null) return;
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...filters, cursor }))
    if (value !== undefined) query.set(name, String(value));
  reply.header('link', `<${path}?${query}>; rel="next"`);
}
