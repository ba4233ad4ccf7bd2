// Serves what explains the API: the OpenAPI document and a page for every problem.
// Invariant: pages and document come from the schemas and the registry that the program itself uses.
// Next room: openapi.ts.
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { Problem } from '../domain/problem.ts';
import { isProblemSlug, problemIndex, problemPage } from '../domain/problems.ts';
import { sendText } from './answer.ts';
import { type Route, refusals } from './route.ts';

const SlugParams = z.object({ slug: z.string().describe('The `code` of a problem.') });

const page = { 'text/markdown': { schema: z.string() } };

/** `GET /openapi.json`. */
export function readOpenapi(document: () => object): Route {
  let text: string | undefined;
  return {
    schema: {
      operationId: 'readOpenapi',
      summary: 'This document',
      tags: ['service'],
      response: {
        200: {
          description: 'The OpenAPI 3.1 document of this API.',
          content: { 'application/json': { schema: z.looseObject({ openapi: z.string() }) } },
        },
        ...refusals(),
      },
    },
    async handler(_request, reply) {
      text ??= JSON.stringify(document());
      return sendText(lasting(reply), 'application/json', text);
    },
  };
}

/** `GET /problems`: every problem in one table. */
export function listProblems(): Route {
  // The table is written for docs/problems/, where each page is a file of its own.
  const text = problemIndex().replaceAll(/\]\(([a-z0-9-]+)\.md\)/g, '](/problems/$1)');
  return {
    schema: {
      operationId: 'listProblems',
      summary: 'All problems',
      tags: ['service'],
      response: { 200: { description: 'A table, in Markdown.', content: page }, ...refusals() },
    },
    async handler(_request, reply) {
      return lasting(reply).type('text/markdown; charset=utf-8').send(text);
    },
  };
}

/** `GET /problems/{slug}`: what a problem means and what to do about it. */
export function readProblem(): Route<{ Params: { slug: string } }> {
  return {
    schema: {
      operationId: 'readProblem',
      summary: 'One problem explained',
      tags: ['service'],
      params: SlugParams,
      response: { 200: { description: 'A page, in Markdown.', content: page }, ...refusals('not-found') },
    },
    async handler(request, reply) {
      const { slug } = request.params;
      if (!isProblemSlug(slug)) {
        throw new Problem('not-found', { detail: 'there is no such problem; see /problems' });
      }
      return lasting(reply).type('text/markdown; charset=utf-8').send(problemPage(slug));
    },
  };
}

/** Lets an answer be kept for a while: documentation changes with releases only. */
export function lasting(reply: FastifyReply): FastifyReply {
  return reply.header('cache-control', 'public, max-age=300');
}
