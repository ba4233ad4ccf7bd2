// Why this room exists: tests of what routes do, rather than of bytes on the wire, call them as a program would and get the
// parsed answer.
// Next room: errand.ts, whose service is called.

export interface Called {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever was answered
  json: any;
}

export interface Caller {
  (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Called>;
  get(path: string, headers?: Record<string, string>): Promise<Called>;
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Called>;
}

/** Calls routes of the service at `url()`; a body that is neither text nor bytes goes as JSON. Redirects are not followed. */
export function calling(url: () => string): Caller {
  const call = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Called> => {
    const isSent = body === undefined || typeof body === 'string' || Buffer.isBuffer(body);
    const text = isSent ? (body as string | Buffer<ArrayBuffer> | undefined) : JSON.stringify(body);
    const typed: Record<string, string> = text === undefined ? {} : { 'content-type': 'application/json' };
    const response = await fetch(`${url()}${path}`, {
      method,
      redirect: 'manual',
      headers: { ...typed, ...headers },
      ...(text === undefined ? {} : { body: text }),
    });
    const answer = await response.text();
    const isJson = /[/+]json/.test(response.headers.get('content-type') ?? '');
    return { status: response.status, headers: response.headers, json: isJson ? JSON.parse(answer) : answer };
  };
  return Object.assign(call, {
    get: (path: string, headers?: Record<string, string>) => call('GET', path, undefined, headers),
    post: (path: string, body?: unknown, headers?: Record<string, string>) =>
      call('POST', path, body, headers),
  });
}
