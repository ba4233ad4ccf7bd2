// Turns whatever is thrown into application/problem+json (RFC 9457), here and nowhere else.
// Invariants: the text of an exception never leaves; every error carries the id of its request; what nobody foresaw is
// told to operators as `http.error`.
// Next room: unrouted.ts, for paths and methods that do not exist.
import type { FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { Problem, toBody } from '../domain/problem.ts';
import type { EventBus } from '../events.ts';

/** The media type of a change to a part (RFC 7396). */
export const mergePatchType = 'application/merge-patch+json';

/** The media type of every error. */
export const problemType = 'application/problem+json';

export interface ErrorOptions {
  events: EventBus;
}

/** Answers every error of every route. */
export const errors = fp<ErrorOptions>(
  async (app, options) => {
    app.setErrorHandler((error, request, reply) => sendProblem(error, request, reply, options));
  },
  { name: 'errand-errors' },
);

/** Sends an error as problem+json; what is no Problem yet becomes one. */
export function sendProblem(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  options: ErrorOptions,
): FastifyReply {
  const problem = toldProblem(known(error, request), request.id, options.events);
  return reply
    .code(problem.status)
    .headers(problem.headers)
    .type(problemType)
    .serializer(JSON.stringify)
    .send(toBody(problem, request.id));
}

/** The Problem to answer for an error, of which operators are told where it concerns them. */
function toldProblem(error: unknown, requestId: string, events: EventBus): Problem {
  const problem = error instanceof Problem ? error : internal(error);
  if (problem.slug === 'internal') events.emit('http.error', { request_id: requestId, error });
  if (problem.status === 503) events.emit('http.refused', { reason: problem.slug });
  return problem;
}

function internal(cause: unknown): Problem {
  return new Problem('internal', {
    detail: 'the server met an error of its own; report the request_id',
    cause,
  });
}

/** What Fastify and node refuse by themselves, as a Problem; any other error as it is. */
function known(error: unknown, { method, routeOptions }: FastifyRequest): unknown {
  if (error instanceof Problem) return error;
  switch (codeOf(error)) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new Problem('payload-too-large', {
        detail: `the body is larger than ${routeOptions.bodyLimit} bytes; send a reference to large data instead`,
      });
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      if (method === 'PATCH') {
        return new Problem('unsupported-media-type', {
          detail: `the content-type is missing or not ${mergePatchType}; send ${mergePatchType}`,
          headers: { 'accept-patch': `${mergePatchType}, application/json` },
        });
      }
      return unsupportedMedia('the content-type is missing or not application/json; send application/json');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new Problem('bad-header', {
        detail: 'content-length is not the length of the body; correct it',
      });
    case 'FST_ERR_BAD_URL':
      return new Problem('bad-header', { detail: 'the path holds a broken percent escape; correct the URL' });
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new Problem('not-found', { detail: 'nothing has an id this long; take URLs from Location' });
    case 'ECONNRESET':
    case 'ERR_STREAM_PREMATURE_CLOSE':
      return new Problem('request-timeout', {
        detail: 'the connection ended before the body was complete; send the whole request',
      });
    default:
      return error;
  }
}

/** What `work` makes, or the Problem it throws: for one of many, whose fault is its own. */
export function problemOr<T>(work: () => T): T | Problem {
  try {
    return work();
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
}

/** The 415 of a path that reads JSON; it says what can be sent (RFC 9110 section 15.5.16). */
export function unsupportedMedia(detail: string, headers: Readonly<Record<string, string>> = {}): Problem {
  return new Problem('unsupported-media-type', {
    detail,
    headers: { 'accept-post': 'application/json', ...headers },
  });
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
