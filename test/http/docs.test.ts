// The page at /docs on a real socket: what it is made of is all there, is ours, may be kept, and leads nowhere else.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, inParallel, problemOf, send, serve } from '../support/serve.ts';

const assetsIn = (page: string) =>
  [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path as string);

for (const path of ['/docs', '/docs/', '/docs?theme=dark']) {
  test(`GET ${path} is a page, and everything it names is there, of its own kind and without other sources`, async () => {
    const { port } = await serve();
    const page = await get(port, path);
    assert.equal(page.status, 200);
    assert.equal(page.headers['content-type'], 'text/html; charset=utf-8');
    assert.match(page.body, /<title>Errand<\/title>/);
    const assets = assetsIn(page.body);
    assert.ok(assets.length >= 6, page.body);
    // What a browser makes of them: the page at /docs names them in full, the one at /docs/ from where it is.
    const paths = assets.map((asset) => new URL(asset, `http://errand.test${path}`).pathname);
    const answers = await inParallel(paths.map((asset) => () => get(port, asset)));
    for (const [i, { status, headers }] of answers.entries()) {
      assert.equal(status, 200, paths[i]);
      assert.ok(paths[i]?.startsWith('/docs/static/'), paths[i]);
      const kinds = { css: /^text\/css/, js: /javascript/, png: /^image\/png/ } as Record<string, RegExp>;
      assert.match(headers['content-type'] ?? '', kinds[paths[i]?.split('.').at(-1) ?? ''] ?? /^$/, paths[i]);
    }
    for (const { headers } of [page, ...answers]) {
      assert.match(
        headers['content-security-policy'] ?? '',
        /^default-src 'none'; script-src 'self'; style-src 'self';/,
      );
      assert.doesNotMatch(headers['content-security-policy'] ?? '', /unsafe|http|\*/);
      assert.equal(headers['x-content-type-options'], 'nosniff');
      assert.equal(headers['cache-control'], 'public, max-age=300');
      assert.equal(headers['accept-ranges'], undefined);
    }
  });
}

test('the page shows the document of this server', async () => {
  const { port } = await serve();
  const shown = await get(port, '/docs/json');
  assert.equal(shown.body, (await get(port, '/openapi.json')).body);
  assert.ok(!shown.body.includes('/docs'));
});

test('the page can only be read', async () => {
  const { port } = await serve();
  for (const path of ['/docs', '/docs/', '/docs/json', '/docs/static/swagger-ui.css']) {
    const written = await send(port, { method: 'POST', path });
    assert.equal(problemOf(written).code, 'method-not-allowed', path);
    assert.deepEqual(written.headers.allow?.split(', ').sort(), ['GET', 'HEAD', 'OPTIONS'], path);
    assert.equal((await send(port, { method: 'HEAD', path })).body, '', path);
    const demanded = await get(port, path, [['Expect', '200-ok']]);
    assert.equal(problemOf(demanded).code, 'expectation-impossible', path);
  }
});

test('what is not part of the page is 404, also by a path that leads out of its folder', async () => {
  const { port, errors } = await serve();
  for (const path of [
    '/docs/nothing',
    '/docs/static/nothing.js',
    '/docs/static/../package.json',
    '/docs/static/../../../../../etc/passwd',
    '/docs/static/%2e%2e/package.json',
    '/docs/static/..%2f..%2fpackage.json',
    '/docs/static/..%5cpackage.json',
    '/docs/static/%00',
  ]) {
    const answer = await get(port, path);
    assert.equal(problemOf(answer).code, 'not-found', path);
    assert.equal(answer.headers['cache-control'], 'no-store', path);
  }
  assert.deepEqual(errors, []);
});

test('a file is known again by its ETag; parts of it and other conditions are not offered', async () => {
  const { port, errors } = await serve();
  const path = '/docs/static/swagger-ui.css';
  const { etag = '', 'content-length': length } = (await get(port, path)).headers;
  assert.equal((await get(port, path, [['If-None-Match', etag]])).status, 304);
  for (const header of [
    ['Range', 'bytes=9999999-'],
    ['Range', 'bytes=0-1'],
    ['If-Match', '"other"'],
  ] as const) {
    const answer = await get(port, path, [header]);
    assert.deepEqual([answer.status, answer.headers['content-length']], [200, length], header[0]);
  }
  assert.deepEqual(errors, []);
});
