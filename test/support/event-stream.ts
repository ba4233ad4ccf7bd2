// Why this room exists: streams are watched as a client does it, on a connection of its own that a test may cut at any
// moment; what arrived half is dropped, as the standard says.
// Next room: src/http/events.ts.
import { once } from 'node:events';
import { get, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';

/** An event as it was received. */
export interface Received {
  id: string;
  event: string;
  data: Record<string, unknown>;
}

export interface EventStream {
  status: number;
  headers: IncomingHttpHeaders;
  /** What was received whole so far. */
  events: Received[];
  /** Everything else: comments and the advice when to come back. */
  asides: string[];
  /** Whether the server ended the stream (true) or the connection broke. */
  over: Promise<boolean>;
  /** Cuts the connection. */
  cut(): void;
  /** The answer itself, for readers who do not read. */
  answer: IncomingMessage;
}

export interface StreamOptions {
  /** The last event that was seen. */
  after?: string | undefined;
  query?: string;
  /** Take the head of the answer and nothing else. */
  paused?: boolean;
}

/** Opens `/v1/jobs/{id}/events` as a stream. */
export async function openStream(
  url: string,
  id: string,
  { after, query = '', paused = false }: StreamOptions = {},
): Promise<EventStream> {
  const request = get(`${url}/v1/jobs/${id}/events${query}`, {
    agent: false,
    headers: {
      accept: 'text/event-stream',
      ...(after === undefined ? {} : { 'last-event-id': after }),
    },
  });
  const [answer] = (await once(request, 'response')) as [IncomingMessage];
  // A connection that is cut is something to look at, not a reason to end the test.
  request.on('error', () => {});
  answer.on('error', () => {});
  const events: Received[] = [];
  const asides: string[] = [];
  const over = new Promise<boolean>((resolve) => answer.once('close', () => resolve(answer.complete)));
  let rest = '';
  answer.setEncoding('utf8');
  const read = (chunk: string) => {
    const frames = `${rest}${chunk}`.split('\n\n');
    rest = frames.pop() as string;
    for (const frame of frames) {
      const received = receivedIn(frame);
      if (received === null) asides.push(frame);
      else events.push(received);
    }
  };
  if (paused) answer.pause();
  else answer.on('data', read);
  const { statusCode: status = 0, headers: sent } = answer;
  return { status, headers: sent, events, asides, over, cut: () => request.destroy(), answer };
}

function receivedIn(frame: string): Received | null {
  const fields = new Map<string, string>();
  for (const line of frame.split('\n')) {
    const [, name, value] = /^(\w+): (.*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) continue;
    fields.set(name, fields.has(name) ? `${fields.get(name)}\n${value}` : value);
  }
  const data = fields.get('data');
  if (data === undefined) return null;
  return { id: fields.get('id') ?? '', event: fields.get('event') ?? '', data: JSON.parse(data) };
}
