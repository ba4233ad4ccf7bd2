// The generator of a flood: raw sockets, because an HTTP client costs more than the server it is to drown.
// Invariants: loopback only; it ends after the seconds it was given, once all it sent is answered or 20 s have passed; what
// is never answered is told as 0.
// Next room: flood.ts, which starts it and says what its answers mean.
import { connect, type Socket } from 'node:net';
import { type FloodOrder, type FloodTold, outcomes } from './flood.ts';

const tick_ms = 5;
const patience_ms = 20_000;

process.once('message', async (order: FloodOrder) => {
  process.send?.(await run(order, () => process.send?.('connected')));
});

interface Line {
  socket: Socket;
  /** What was sent and is not answered: when it was due, and which it is. */
  due: number;
  n: number;
  text: string;
}

async function run(order: FloodOrder, onConnected: () => void): Promise<FloodTold> {
  const { port, body, seconds, connections, rate, keys, numbers } = order;
  let began = performance.now();
  let cpuBefore = process.cpuUsage();
  const codes: number[] = [];
  const [atAll, msAll, lateAll, numbersAll]: [number[], number[], number[], number[]] = [[], [], [], []];
  const others: Record<string, number> = {};
  const free: Line[] = [];
  const busy = new Set<Line>();
  /** Those before `paid` were sent. Taking the first of an array of thousands away moves all the others. */
  const owed: { due: number; n: number }[] = [];
  let paid = 0;
  let rude = 0;
  let next = 0;
  let isRunning = false;
  let isOver = false;
  const done = Promise.withResolvers<void>();
  const plain = keys === undefined ? Buffer.from(requestOf('')) : null;

  const owes = () => paid < owed.length;

  function requestOf(key: string): string {
    const line = key === '' ? '' : `Idempotency-Key: ${key}\r\n`;
    return (
      `POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/json\r\n${line}` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
    );
  }

  function write(line: Line, due: number, n: number): void {
    line.due = due;
    line.n = n;
    busy.add(line);
    if (plain !== null) line.socket.write(plain);
    else line.socket.write(requestOf(`${keys}${n}`), 'latin1');
  }

  function note(line: Line, code: number): void {
    busy.delete(line);
    codes.push(code);
    numbersAll.push(line.n);
    atAll.push(line.due - began);
    msAll.push(performance.now() - line.due);
  }

  function onText(line: Line): boolean {
    const { text } = line;
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) return false;
    const head = text.slice(0, end);
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? Number.NaN);
    if (text.length < end + 4 + length) return false;
    const status = head.slice(9, 12);
    if (status === '202') note(line, 0);
    else if (status === '503') {
      if (!/\r\nretry-after: *[1-9]/i.test(head)) rude++;
      note(line, text.includes('"code":"outcome-unknown"', end) ? 2 : 1);
    } else fail(line, status);
    line.text = '';
    if (/\r\nconnection: *close/i.test(head)) line.socket.destroy();
    return true;
  }

  function fail(line: Line, what: string): void {
    others[what] = (others[what] ?? 0) + 1;
    note(line, outcomes.indexOf('other'));
  }

  const asksAllTheTime = rate === undefined && numbers === undefined;
  const stand = Promise.withResolvers<void>();

  function onFree(line: Line): void {
    const debt = owed[paid++];
    if (debt === undefined) owed.length = paid = 0;
    if (debt !== undefined) write(line, debt.due, debt.n);
    else if (asksAllTheTime && isRunning && !isOver) write(line, performance.now(), next++);
    else free.push(line);
    if (!isRunning && free.length === connections) stand.resolve();
    if (isOver && busy.size === 0 && !owes()) done.resolve();
  }

  function open(): void {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    const line: Line = { socket, due: 0, n: 0, text: '' };
    socket.setEncoding('latin1');
    socket.once('connect', () => onFree(line));
    socket.on('data', (chunk: string) => {
      // What was not asked for is a farewell.
      if (!busy.has(line)) return void socket.destroy();
      line.text = line.text === '' ? chunk : line.text + chunk;
      if (onText(line) && !socket.destroyed) onFree(line);
    });
    socket.on('error', () => {});
    socket.once('close', () => {
      const at = free.indexOf(line);
      if (at >= 0) free.splice(at, 1);
      if (busy.has(line)) fail(line, 'closed');
      if (!isOver || owes()) open();
      else if (busy.size === 0) done.resolve();
    });
  }

  function send(due: number, n: number): void {
    // In turn: a connection that is never used is closed by the server.
    const line = free.shift();
    if (line === undefined) owed.push({ due, n });
    else write(line, due, n);
  }

  for (let i = 0; i < connections; i++) open();
  await stand.promise;
  onConnected();
  began = performance.now();
  cpuBefore = process.cpuUsage();
  isRunning = true;
  const until = began + seconds * 1_000;
  if (asksAllTheTime) for (const line of free.splice(0)) write(line, performance.now(), next++);
  for (const n of numbers ?? []) send(performance.now(), n);
  let round = began;
  const timer = setInterval(() => {
    const now = performance.now();
    lateAll.push(Math.max(0, now - round - tick_ms));
    round = now;
    if (now >= until) {
      isOver = true;
      clearInterval(timer);
      if (busy.size === 0 && !owes()) done.resolve();
      return;
    }
    if (rate === undefined) return;
    for (let due = began + (next / rate) * 1_000; due <= now; due = began + (next / rate) * 1_000) {
      send(due, next++);
    }
  }, tick_ms);
  await Promise.race([
    done.promise,
    new Promise((resolve) => setTimeout(resolve, seconds * 1_000 + patience_ms)),
  ]);
  clearInterval(timer);
  isOver = true;
  isRunning = false;
  for (const line of [...busy]) fail(line, '0');
  const cpu = process.cpuUsage(cpuBefore);
  return {
    cpu_ms: (cpu.user + cpu.system) / 1_000,
    began_at: performance.timeOrigin + began,
    numbers: Uint32Array.from(numbersAll),
    at: Float64Array.from(atAll),
    ms: Float64Array.from(msAll),
    outcome: Uint8Array.from(codes),
    late: Float64Array.from(lateAll),
    rude,
    others,
  };
}
