// What targets do to the one who calls them: they hang, flood, lie and lead elsewhere. Each is a real server on loopback;
// none may cost more than its own request.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp, type RequestListener } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net';
import { after, test } from 'node:test';
import { createGzip } from 'node:zlib';
import { loopbackToo, parsePrivateTargets, publicOnly } from '../../src/domain/address.ts';
import type { TargetAnswer } from '../../src/domain/push.ts';
import { type Cut, type Sender, type SenderOptions, sending } from '../../src/roles/worker/target.ts';
import { until } from '../support/until.ts';

// Signed by nobody but itself, for 127.0.0.1.
const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4/vjfXAMDsvJ1TG3
PmXa9IwrWkK27H/bYcmArOF8oH2hRANCAASAHjPF8SlBuTmrKIVqivWLHD+XjnqA
JiQclMDsdkTeB+aqC+09zAUyKBcDFhh6dlwwQIGCyBjoPCrBR5hXCAcX
-----END PRIVATE KEY-----
`;
const cert = `-----BEGIN CERTIFICATE-----
MIIBjzCCATagAwIBAgIUOdQ4cGe0oQ+7hmaHf5EHFn0FehwwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMTA1NTAzOFoYDzIxMjYxMDI4
MDU1MDM4WjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASAHjPF8SlBuTmrKIVqivWLHD+XjnqAJiQclMDsdkTeB+aqC+09zAUy
KBcDFhh6dlwwQIGCyBjoPCrBR5hXCAcXo2QwYjAdBgNVHQ4EFgQUVpYxMQcu3cEj
9tAVfce7KDQol5AwHwYDVR0jBBgwFoAUVpYxMQcu3cEj9tAVfce7KDQol5AwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0cAMEQC
ICHiBFs47eJ9KS/1rZxCSz3MGhzyKp75ljyzwW+loF4WAiBh48ACddutkiQS1/Ru
/ErH9AhWaUWfXvhKM0yqp3N36Q==
-----END CERTIFICATE-----
`;

const limit = 100_000;
const servers: Server[] = [];
const senders: Sender[] = [];

after(async () => {
  for (const sender of senders) await sender.close();
  for (const server of servers) server.close();
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

const web = (listener: RequestListener) => listen(createHttp(listener));

/** A server that answers with whatever bytes, once it has seen a request. */
function raw(answer: (socket: Socket) => void): Promise<number> {
  return listen(
    createTcp((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => answer(socket));
    }),
  );
}

/** A listener on loopback that is not to be reached. */
async function untouched(): Promise<{ port: number; connections: () => number }> {
  let connections = 0;
  const server = createTcp((socket) => {
    connections++;
    socket.destroy();
  });
  return { port: await listen(server), connections: () => connections };
}

function sender(options: Partial<SenderOptions> = {}): Sender {
  const made = sending({ policy: loopbackToo, connections: 8, bodyLimit: limit, ...options });
  senders.push(made);
  return made;
}

const ordinary = sender();

function send(url: string, by = ordinary, signal = AbortSignal.timeout(10_000)): Promise<TargetAnswer> {
  const request = { url, method: 'POST', headers: { 'X-A': '1' }, body: Buffer.from('{"a":1}') } as const;
  return by.send(request, cutBy(signal));
}

function cutBy(signal: AbortSignal): Cut {
  const cut: Cut = {
    get isStopped() {
      return signal.aborted;
    },
    onStop: undefined,
  };
  signal.addEventListener('abort', () => cut.onStop?.(), { once: true });
  return cut;
}

async function reasonOf(answer: Promise<TargetAnswer>): Promise<string> {
  const one = await answer;
  return one.kind === 'failed' ? one.reason : `answered ${one.status}`;
}

test('a target gets the body as it is and its answer comes back as it is', async () => {
  let got: unknown;
  const port = await web((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const { host, 'x-a': header, 'content-length': length } = request.headers;
      got = [request.method, request.url, host, header, length, Buffer.concat(chunks).toString()];
      response.writeHead(201, { Location: '/a/7', 'X-B': ['1', '2'] }).end('{"n":1e400}');
    });
  });
  const answer = await send(`http://127.0.0.1:${port}/a?b=c`);
  assert.deepEqual(got, ['POST', '/a?b=c', `127.0.0.1:${port}`, '1', '7', '{"a":1}']);
  assert.ok(answer.kind === 'answered');
  assert.deepEqual([answer.status, answer.headers.location, answer.headers['x-b']], [201, '/a/7', '1']);
  assert.equal(answer.body?.toString(), '{"n":1e400}');
});

test('a redirect is an answer, and nobody goes there', async () => {
  let visits = 0;
  const there = await web((_, response) => {
    visits++;
    response.end();
  });
  for (const status of [301, 302, 303, 307, 308]) {
    const here = await web((_, response) =>
      response.writeHead(status, { Location: `http://127.0.0.1:${there}/` }).end(),
    );
    assert.equal(await reasonOf(send(`http://127.0.0.1:${here}/`)), `answered ${status}`);
  }
  assert.equal(visits, 0);
});

test('a target that hangs is cut when the signal says so, and sees it', async () => {
  for (const answer of ['', 'HTTP/1.1 200 OK\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc']) {
    let closed: Promise<unknown> | undefined;
    const cut = new AbortController();
    const port = await raw((socket) => {
      closed = new Promise((resolve) => socket.on('close', resolve));
      socket.write(answer, () => cut.abort());
    });
    const reason = await reasonOf(send(`http://127.0.0.1:${port}/`, ordinary, cut.signal));
    assert.equal(reason, 'aborted', answer);
    await closed;
  }
});

test('a request that is still connecting is cut just as promptly', async () => {
  const lookups = sender({ resolve: () => new Promise(() => {}), connectTimeoutMs: 5_000 });
  const began = performance.now();
  const cut = AbortSignal.timeout(50);
  assert.equal(await reasonOf(send('http://slow.example/', lookups, cut)), 'aborted');
  assert.ok(performance.now() - began < 2_500);
});

test('a name that is never resolved ends by the limit of connecting', async () => {
  const lookups = sender({ resolve: () => new Promise(() => {}), connectTimeoutMs: 5_000 });
  assert.equal(await reasonOf(send('http://slow.example/', lookups)), 'connect');
});

test('a target that stops in the middle of its body is given up before the deadline', async () => {
  const port = await raw((socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'));
  const impatient = sender({ bodyTimeoutMs: 200 });
  const answer = await send(`http://127.0.0.1:${port}/`, impatient);
  assert.deepEqual(answer, {
    kind: 'failed',
    reason: 'reset',
    detail: `127.0.0.1:${port} stopped in the middle of its answer`,
  });
});

test('a connection that is reset or closed too early is told as such', async () => {
  const reset = await raw((socket) => socket.resetAndDestroy());
  const early = await raw((socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'));
  const none = await raw((socket) => socket.end());
  for (const port of [reset, early, none])
    assert.equal(await reasonOf(send(`http://127.0.0.1:${port}/`)), 'reset');
});

test('nobody listens: the reason names the host and no more', async () => {
  const server = createTcp();
  const port = await listen(server);
  server.close();
  await once(server, 'close');
  const answer = await send(`http://127.0.0.1:${port}/secret?token=1`);
  assert.deepEqual(answer, {
    kind: 'failed',
    reason: 'connect',
    detail: `127.0.0.1:${port} cannot be reached (ECONNREFUSED)`,
  });
});

test('a body without end is cut at the limit, whatever its length claims', async () => {
  for (const head of ['Transfer-Encoding: chunked', 'Content-Length: 1000000000000', 'Connection: close']) {
    let sent = 0;
    let closed: Promise<unknown> | undefined;
    const port = await raw((socket) => {
      closed = new Promise((resolve) => socket.on('close', resolve));
      socket.write(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n`);
      const part = 'x'.repeat(16_384);
      const chunk = head.startsWith('T') ? `4000\r\n${part}\r\n` : part;
      const pour = () => {
        while (!socket.destroyed && socket.write(chunk)) sent += chunk.length;
      };
      socket.on('drain', pour);
      pour();
    });
    const answer = await send(`http://127.0.0.1:${port}/`);
    assert.ok(answer.kind === 'answered' && answer.status === 200 && answer.body === null, head);
    await closed;
    // What stands in the buffers of both sides is sent too, but no more.
    assert.ok(sent < 20_000_000, `${head}: ${sent} bytes`);
  }
});

test('50 MB in some 50 kB of gzip stay 50 kB, and one that is larger is cut like any other body', async () => {
  const bomb = async (bytes: number) => {
    const gzip = createGzip();
    const zeros = Buffer.alloc(1_000_000);
    for (let n = 0; n < bytes / zeros.length; n++) gzip.write(zeros);
    gzip.end();
    return Buffer.concat(await gzip.toArray());
  };
  const small = await bomb(50_000_000);
  const large = await bomb(200_000_000);
  assert.ok(small.length < limit && large.length > limit);
  const port = await web((request, response) => {
    response.writeHead(200, { 'Content-Encoding': 'gzip', 'Content-Type': 'application/json' });
    response.end(request.url === '/small' ? small : large);
  });
  const before = process.memoryUsage().rss;
  const whole = await send(`http://127.0.0.1:${port}/small`);
  assert.ok(whole.kind === 'answered' && whole.body?.equals(small));
  const cut = await send(`http://127.0.0.1:${port}/large`);
  assert.ok(cut.kind === 'answered' && cut.body === null);
  assert.ok(process.memoryUsage().rss - before < 40_000_000);
});

test('the body of a failure need not be whole, only that of a success', async () => {
  const lie = (status: string) =>
    raw((socket) => socket.end(`HTTP/1.1 ${status}\r\nContent-Length: 10\r\n\r\nabc`));
  for (const status of ['503 No', '404 No', '202 Yes']) {
    assert.equal(
      await reasonOf(send(`http://127.0.0.1:${await lie(status)}/`)),
      `answered ${status.slice(0, 3)}`,
    );
  }
});

test('headers beyond 16 KiB end the request, in one line, in many, and dripping', async () => {
  const answers: ((socket: Socket) => void)[] = [
    (socket) => socket.write(`HTTP/1.1 200 OK\r\nX-A: ${'a'.repeat(1_000_000)}\r\n\r\n`),
    (socket) => socket.write(`HTTP/1.1 200 OK\r\n${'X-A: aaaaaaaa\r\n'.repeat(100_000)}\r\n`),
  ];
  for (const answer of answers) {
    assert.equal(await reasonOf(send(`http://127.0.0.1:${await raw(answer)}/`)), 'too_large');
  }
  const drip = await raw((socket) => {
    const timer = setInterval(() => socket.write('X'), 10);
    socket.write('HTTP/1.1 200 OK\r\n');
    socket.on('close', () => clearInterval(timer));
  });
  assert.equal(
    await reasonOf(send(`http://127.0.0.1:${drip}/`, ordinary, AbortSignal.timeout(300))),
    'aborted',
  );
});

test('interim answers are skipped, but not without end', async () => {
  const few = await raw((socket) => {
    socket.write('HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n');
    socket.end('HTTP/1.1 204 No Content\r\n\r\n');
  });
  assert.equal(await reasonOf(send(`http://127.0.0.1:${few}/`)), 'answered 204');
  const flood = await raw((socket) => {
    const pour = () => {
      while (!socket.destroyed && socket.write('HTTP/1.1 102 Processing\r\nX-A: a\r\n\r\n'.repeat(100)));
    };
    socket.on('drain', pour);
    pour();
  });
  assert.equal(await reasonOf(send(`http://127.0.0.1:${flood}/`)), 'protocol');
});

test('what is not HTTP is told as such', async () => {
  for (const text of [
    'SSH-2.0-OpenSSH_9.2\r\n',
    '+PONG\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n',
    '\0\0\0',
  ]) {
    const port = await raw((socket) => socket.write(text));
    assert.equal(await reasonOf(send(`http://127.0.0.1:${port}/`)), 'protocol', JSON.stringify(text));
  }
});

test('an upgrade nobody asked for ends the request', async () => {
  const port = await raw((socket) =>
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n'),
  );
  assert.match(await reasonOf(send(`http://127.0.0.1:${port}/`)), /^(reset|protocol)$/);
});

test('a certificate nobody vouches for is refused', async () => {
  let requests = 0;
  const port = await listen(
    createHttps({ key, cert }, (_, response) => {
      requests++;
      response.end();
    }),
  );
  const answer = await send(`https://127.0.0.1:${port}/`);
  assert.ok(answer.kind === 'failed' && answer.reason === 'tls');
  assert.match(answer.detail, /^127\.0\.0\.1:\d+ cannot be trusted \(\w+\)$/);
  assert.equal(requests, 0);
});

test('TLS to a server that speaks none is told as such', async () => {
  const port = await web((_, response) => response.end());
  assert.equal(await reasonOf(send(`https://127.0.0.1:${port}/`)), 'tls');
});

test('a listener on loopback is never reached where nothing private is allowed', async () => {
  const { port, connections } = await untouched();
  const strict = sender({ policy: publicOnly });
  const hosts = [
    ...['127.0.0.1', '127.1', '2130706433', '0x7f.1', '0177.0.0.1', '0', '0.0.0.0', '127.0.0.1.'],
    ...['①②⑦.0.0.1', '127。0。0。1', 'localhost', 'LOCALHOST'],
    ...['[::1]', '[::]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[::127.0.0.1]'],
    ...['[64:ff9b::7f00:1]', '[2002:7f00:1::]', '[2001:0:7f00:1::]', '[fe80::1]', '[fc00::1]'],
  ];
  for (const host of hosts)
    assert.equal(await reasonOf(send(`http://${host}:${port}/`, strict)), 'address', host);
  // Some resolvers know no name with a dot at its end.
  assert.match(await reasonOf(send(`http://localhost.:${port}/`, strict)), /^(address|connect)$/);
  assert.equal(connections(), 0);
});

test('a name with one private address among public ones is not called at all', async () => {
  const { port, connections } = await untouched();
  const both = [
    { address: '93.184.216.34', family: 4 },
    { address: '127.0.0.1', family: 4 },
  ];
  for (const addresses of [both, both.toReversed(), [{ address: '::ffff:7f00:1', family: 6 }], []]) {
    const strict = sender({ policy: publicOnly, resolve: async () => addresses });
    const answer = await send(`http://rebind.example:${port}/`, strict);
    assert.deepEqual(answer, {
      kind: 'failed',
      reason: 'address',
      detail: `rebind.example:${port} leads to an address that may not be reached; see ERRAND_PRIVATE_TARGETS`,
    });
  }
  assert.equal(connections(), 0);
});

test('the address that was checked is the one connected to, whatever the name means a moment later', async () => {
  const { port, connections } = await untouched();
  const answers = ['127.0.0.2', '127.0.0.1'];
  let asked = 0;
  // 127.0.0.2 stands for the public address of the first answer: allowed, and nobody listens there.
  const strict = sender({
    policy: parsePrivateTargets('127.0.0.2/32'),
    resolve: async () => [{ address: answers[asked++] as string, family: 4 }],
  });
  assert.equal(await reasonOf(send(`http://rebind.example:${port}/`, strict)), 'connect');
  assert.equal(await reasonOf(send(`http://rebind.example:${port}/`, strict)), 'address');
  assert.deepEqual([asked, connections()], [2, 0]);
});

test('a name is resolved for each connection, and Host stays the name', async () => {
  const hosts: (string | undefined)[] = [];
  const port = await web((request, response) => {
    hosts.push(request.headers.host);
    response.writeHead(204, { Connection: 'close' }).end();
  });
  let asked = 0;
  const named = sender({
    resolve: async () => {
      asked++;
      return [{ address: '127.0.0.1', family: 4 }];
    },
  });
  for (let n = 0; n < 2; n++) await send(`http://app.example:${port}/`, named);
  assert.deepEqual([asked, hosts], [2, [`app.example:${port}`, `app.example:${port}`]]);
});

test('a name that does not exist is told as such', async () => {
  const lost = sender({
    resolve: async () => {
      throw Object.assign(new Error('getaddrinfo ENOTFOUND gone.example'), { code: 'ENOTFOUND' });
    },
  });
  assert.deepEqual(await send('http://gone.example/', lost), {
    kind: 'failed',
    reason: 'connect',
    detail: 'gone.example cannot be found (ENOTFOUND)',
  });
});

test('neighbours are not held up by targets that hang', async () => {
  const busy = sender({ connections: 50 });
  const stuck = await raw(() => {});
  const good = await web((_, response) => response.end('1'));
  const cut = new AbortController();
  const hanging = Array.from({ length: 50 }, () => send(`http://127.0.0.1:${stuck}/`, busy, cut.signal));
  const times: number[] = [];
  for (let n = 0; n < 50; n++) {
    const began = performance.now();
    assert.equal(await reasonOf(send(`http://127.0.0.1:${good}/`, busy)), 'answered 200');
    times.push(performance.now() - began);
  }
  cut.abort();
  await Promise.all(hanging);
  assert.ok((times.sort((a, b) => a - b)[25] as number) < 100);
});

test('connections are used again, and closed when nobody needs them', async () => {
  const sockets = new Set<Socket>();
  const server = createHttp((_, response) => response.end('1'));
  let opened = 0;
  server.on('connection', (socket) => {
    opened++;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  const port = await listen(server);
  for (let n = 0; n < 20; n++) await send(`http://127.0.0.1:${port}/`);
  // A connection is free a moment after its answer was read, so there may be a second.
  assert.ok(opened <= 2, `${opened} connections`);
  await until(() => sockets.size === 0);
});

test('however many origins there are, connections of few are kept', async () => {
  const sockets = new Set<Socket>();
  const server = createHttp((_, response) => response.end('1'));
  let most = 0;
  server.on('connection', (socket) => {
    sockets.add(socket);
    most = Math.max(most, sockets.size);
    socket.on('close', () => sockets.delete(socket));
  });
  const port = await listen(server);
  const many = sender({ resolve: async () => [{ address: '127.0.0.1', family: 4 }] });
  for (let n = 0; n < 400; n++) await send(`http://n${n}.example:${port}/`, many);
  assert.ok(most < 300, `${most} connections at once`);
});
