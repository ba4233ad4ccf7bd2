// The events of a job, read from a stream (Server-Sent Events) that is taken up again where it broke off.
// Invariant: each event is given once, in order; a connection that has fallen silent is given up and opened anew.
// Next room: call.ts, which opens it.
import { type Caller, pause } from './call.ts';
import type { Answer } from './shapes.ts';

/** Something that happened to a job. Pass over events you do not know. */
export type JobEvent = Answer<'readEvents', 200>['items'][number];

interface Options {
  after?: string;
  signal?: AbortSignal | undefined;
}

/** The service sends something at least every 15 s. */
const silence_ms = 45_000;
/** Longer than a stream lives, in seconds. */
const stream_seconds = 660;

/** Reads the events of a path until the job has ended. */
export async function* eventsOf(
  caller: Caller,
  path: string,
  { after, signal }: Options,
): AsyncGenerator<JobEvent, void, void> {
  let last = after;
  let retry_ms = 2_000;
  for (;;) {
    const silence = new AbortController();
    const either = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
    const headers = { Accept: 'text/event-stream', ...(last === undefined ? {} : { 'Last-Event-ID': last }) };
    const answer = await caller.persist(path, { headers, signal: either, seconds: stream_seconds });
    // The job has ended, and all of it was told.
    if (answer.status === 204 || answer.body === null) return;
    try {
      for await (const block of blocksOf(answer.body, silence)) {
        const { id, event, data, retry } = fieldsOf(block);
        if (retry !== undefined) retry_ms = Number(retry);
        if (id === undefined || event === undefined) continue;
        last = id;
        yield { id, event, data: JSON.parse(data ?? 'null') } as JobEvent;
        if (event === 'done') return;
      }
    } catch (error) {
      if (signal?.aborted) throw error;
    } finally {
      silence.abort();
    }
    await pause(retry_ms, signal);
  }
}

/** The blocks of a stream, as text; `silence` is aborted when nothing comes for too long. */
async function* blocksOf(body: ReadableStream<Uint8Array>, silence: AbortController): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const timer = setTimeout(() => silence.abort(new Error('the stream has fallen silent')), silence_ms);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    yield* blocks;
  }
}

function fieldsOf(block: string): Partial<Record<'id' | 'event' | 'data' | 'retry', string>> {
  const fields: Record<string, string> = {};
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, '');
    fields[name] = name in fields && name === 'data' ? `${fields.data}\n${value}` : value;
  }
  return fields;
}
