// The contract of the audit: what can be asked for and the form of a row (docs/contract.md, Audit).
// Next room: http/audit.ts.
import { z } from 'zod';
import { actorPattern } from '../../domain/actor.ts';
import { cursor, digits } from './page.ts';
import { moment } from './scalars.ts';

const word = z
  .string()
  .min(1)
  .max(256)
  .refine((text) => !text.includes('\0') && text.isWellFormed(), {
    message: 'holds characters that none can have',
  });

/** The query of `GET /v1/audit`. */
export const AuditQuery = z.strictObject({
  actor: z
    .string()
    .regex(actorPattern, 'must be 1 to 128 printable ASCII characters')
    .optional()
    .describe('Only what this actor did.'),
  action: word.optional().describe('Only this action, such as `queue.pause`.'),
  target: word.optional().describe('Only what was done to this: a queue, a schedule, an id.'),
  from: moment.optional().describe('Only at this time or later.'),
  to: moment.optional().describe('Only before this time.'),
  limit: z
    .preprocess(digits, z.int().min(1).max(1_000).default(50))
    .describe('Most rows on a page; there may be fewer although there is more.'),
  cursor,
});
export type AuditQuery = z.output<typeof AuditQuery>;

/** A row of the audit. */
export const AuditEntry = z
  .object({
    id: z.string(),
    at: z.iso.datetime(),
    actor: z.string().describe('As `Errand-Actor` named it; nothing proves it.'),
    request_id: z.string().describe('The `X-Request-Id` of the answer.'),
    action: z.string(),
    target: z.string(),
    reason: z.string().nullable(),
    facts: z.looseObject({}).describe('What else is worth knowing; its members depend on the action.'),
  })
  .meta({ id: 'AuditEntry', description: 'What an operator did.' });

/** A page of the audit. */
export const AuditList = z
  .object({ items: z.array(AuditEntry), next_cursor: z.string().nullable() })
  .meta({ id: 'AuditList', description: 'A page of the audit, the newest first.' });
