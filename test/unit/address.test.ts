// Where a push may go: every way to write an address that is not public, URLs that different readers read differently, and
// what is allowed on purpose.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  checkTargetUrl,
  loopbackToo,
  mayReach,
  parsePrivateTargets,
  publicOnly,
} from '../../src/domain/address.ts';

const codeOf = (url: string, policy = publicOnly) => {
  const checked = checkTargetUrl(url, policy);
  return checked.kind === 'ok' ? 'ok' : checked.code;
};

const literals: readonly (readonly [string, readonly string[]])[] = [
  ['loopback', ['http://127.0.0.1', 'http://127.8.9.10', 'http://[::1]', 'http://[0:0:0:0:0:0:0:1]']],
  ['one number', ['http://2130706433', 'http://0x7f000001', 'http://017700000001']],
  ['hexadecimal and octal parts', ['http://0x7f.1', 'http://0177.0.0.1', 'http://0x7f.0.0.0x1']],
  ['missing parts', ['http://127.1', 'http://127.0.1', 'http://0']],
  ['a trailing dot', ['http://127.0.0.1.', 'http://127.1.']],
  ['percent signs', ['http://%31%32%37.0.0.1', 'http://127%2e0.0.1']],
  ['unspecified', ['http://0.0.0.0', 'http://[::]', 'http://0.1.2.3']],
  ['IPv4-mapped', ['http://[::ffff:127.0.0.1]', 'http://[::ffff:a9fe:a9fe]', 'http://[::ffff:8.8.8.8]']],
  ['IPv4-compatible', ['http://[::127.0.0.1]', 'http://[::8.8.8.8]']],
  ['IPv4-translated', ['http://[::ffff:0:7f00:1]', 'http://[::ffff:0:808:808]']],
  ['NAT64', ['http://[64:ff9b::a9fe:a9fe]', 'http://[64:ff9b::808:808]', 'http://[64:ff9b:1::1]']],
  ['6to4', ['http://[2002:7f00:1::]', 'http://[2002:808:808::1]']],
  ['Teredo', ['http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]', 'http://[2001::1]']],
  ['link-local', ['http://[fe80::1]', 'http://169.254.169.254/latest/meta-data', 'http://169.254.0.1']],
  ['a metadata service at a public address', ['http://168.63.129.16/metadata']],
  ['unique local', ['http://[fc00::1]', 'http://[fd00:ec2::254]']],
  ['site-local', ['http://[fec0::1]']],
  ['multicast', ['http://[ff02::1]', 'http://224.0.0.1', 'http://239.255.255.250']],
  ['private', ['http://10.0.0.1', 'http://172.16.0.1', 'http://172.31.255.255', 'http://192.168.1.1']],
  ['carrier-grade NAT', ['http://100.64.0.1', 'http://100.127.255.255']],
  ['benchmarks', ['http://198.18.0.1', 'http://198.19.255.255', 'http://[2001:2::1]']],
  [
    'documentation',
    [
      'http://192.0.2.1',
      'http://198.51.100.1',
      'http://203.0.113.1',
      'http://[2001:db8::1]',
      'http://[3fff::1]',
    ],
  ],
  ['protocol assignments', ['http://192.0.0.8', 'http://192.88.99.1', 'http://[2001:1::1]']],
  ['reserved and broadcast', ['http://240.0.0.1', 'http://255.255.255.255', 'http://[4000::1]']],
  ['discard and segment routing', ['http://[100::1]', 'http://[5f00::1]']],
  ['other digits', ['http://①②⑦.0.0.1', 'http://１２７.0.0.1']],
  ['other dots', ['http://127。0。0。1', 'http://127．0．0．1', 'http://127｡0｡0｡1']],
];

for (const [form, urls] of literals) {
  test(`an address that is not public is refused: ${form}`, () => {
    for (const url of urls) assert.equal(codeOf(url), 'refused_address', url);
  });
}

test('names that lead nowhere public are refused where nothing private is allowed', () => {
  for (const name of ['localhost', 'LOCALHOST', 'localhost.', 'a.localhost']) {
    assert.equal(codeOf(`http://${name}`), 'refused_address', name);
    assert.equal(codeOf(`http://${name}`, loopbackToo), 'ok', name);
  }
  const inside = [
    'metadata.google.internal',
    'db.default.svc',
    'db.default.svc.cluster.local',
    'nas.local',
    'x.local.',
  ];
  for (const name of inside) {
    assert.equal(codeOf(`http://${name}`), 'refused_address', name);
    assert.equal(codeOf(`http://${name}`, loopbackToo), 'refused_address', name);
    assert.equal(codeOf(`http://${name}`, parsePrivateTargets('10.0.0.0/8')), 'ok', name);
  }
});

test('any other name is resolved when the job is sent', () => {
  for (const name of ['app.example', 'xn--bcher-kva.example', 'mylocal', 'internal.example', 'a.b.c.']) {
    assert.equal(codeOf(`https://${name}/hook`), 'ok', name);
  }
});

test('credentials in a URL are refused, whatever stands behind them', () => {
  for (const url of [
    'http://user:pw@app.example',
    'http://user@app.example',
    'http://good.example@127.0.0.1',
  ]) {
    assert.equal(codeOf(url), 'invalid_url', url);
  }
});

test('what readers of a URL disagree about is refused', () => {
  const odd = [
    'http://127.0.0.1\\@good.example',
    'http://good.example\\@127.0.0.1',
    'http://app.example/\r\nX-A: 1',
    'http://app.example/\ta',
    'http://app.example/\0',
    'http://app.example/a b',
    ' http://app.example',
    'http://app.ex\nample',
    'http://app.example/#part',
    'http://app.example/#',
  ];
  for (const url of odd) assert.equal(codeOf(url), 'invalid_url', JSON.stringify(url));
});

test('only absolute http and https URLs are taken', () => {
  const others = [
    'file:///etc/passwd',
    'gopher://app.example',
    'ftp://app.example',
    'data:,a',
    'javascript:1',
  ];
  for (const url of [
    ...others,
    '',
    '/hook',
    '//app.example',
    'app.example',
    'http://',
    'http://[::1',
    'ws://a.example',
  ]) {
    assert.equal(codeOf(url), 'invalid_url', url);
  }
});

test('ports of services that are not HTTP are refused', () => {
  for (const port of [0, 22, 25, 53, 465, 3306, 5432, 6379, 11211]) {
    assert.equal(codeOf(`http://app.example:${port}`), 'refused_port', String(port));
  }
  assert.equal(codeOf('http://app.example:65536'), 'invalid_url');
  for (const url of ['http://app.example:80', 'https://app.example:443', 'http://app.example:8080']) {
    assert.equal(codeOf(url), 'ok', url);
  }
});

test('a URL has at most 2,048 characters', () => {
  const long = `https://app.example/${'a'.repeat(2_028)}`;
  assert.equal(codeOf(long), 'ok');
  assert.equal(codeOf(`${long}a`), 'too_big');
  assert.equal(codeOf(`https://app.example/${'a'.repeat(10_000)}`), 'too_big');
});

test('a URL is kept in the spelling in which it is sent', () => {
  const checked = checkTargetUrl('HTTPS://Bücher.Example:443/ä?q=ü', publicOnly);
  assert.deepEqual(checked, { kind: 'ok', url: 'https://xn--bcher-kva.example/%C3%A4?q=%C3%BC' });
});

test('faults say what is wrong and never repeat the URL', () => {
  for (const url of [
    'http://10.1.2.3/secret',
    'http://u:secret@a.example',
    'http://a.example:22/secret',
    'secret',
  ]) {
    const checked = checkTargetUrl(url, publicOnly);
    assert.ok(checked.kind === 'fault');
    assert.doesNotMatch(checked.detail, /secret|10\.1/);
  }
});

test('what is allowed on purpose is reached, and nothing beside it', () => {
  const policy = parsePrivateTargets('loopback, 10.1.0.0/16,fd00::/8');
  for (const address of ['127.0.0.1', '::1', '10.1.2.3', 'fd12::1', '8.8.8.8', '2606:4700::1']) {
    assert.equal(mayReach(address, policy), true, address);
  }
  for (const address of [
    '10.2.0.1',
    '192.168.0.1',
    'fe80::1',
    '::ffff:127.0.0.1',
    '::ffff:10.1.2.3',
    '0.0.0.0',
  ]) {
    assert.equal(mayReach(address, policy), false, address);
  }
  assert.deepEqual(parsePrivateTargets('none'), publicOnly);
  assert.deepEqual(parsePrivateTargets('loopback'), loopbackToo);
});

test('what is no address is not reached', () => {
  for (const text of ['', 'localhost', '127.1', '0x7f.0.0.1', '2130706433', 'fe80::1%eth0', '1.2.3.4.5']) {
    assert.equal(mayReach(text, loopbackToo), false, text);
  }
});

test('a setting that cannot be read names the part at fault', () => {
  for (const text of ['all', '10.0.0.0', '10.0.0.0/33', '::1/129', '10.0.0.0/8/8', '10/8', '', 'none,,']) {
    assert.throws(() => parsePrivateTargets(text), RangeError, text);
  }
  assert.throws(() => parsePrivateTargets('loopback,10.0.0.0/x'), /"10\.0\.0\.0\/x" is neither/);
});

test('no IPv6 address outside 2000::/3 and no IPv4 address of the known special ranges is public', () => {
  const special =
    /^(0|10|127|22[4-9]|2[34]\d|25\d)\.|^100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|^169\.254\.|^172\.(1[6-9]|2\d|3[01])\.|^192\.168\.|^198\.1[89]\./;
  fc.assert(
    fc.property(fc.ipV4(), (address) => !special.test(address) || !mayReach(address, publicOnly)),
    { numRuns: 2_000 },
  );
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      const first = Number.parseInt(
        new URL(`http://[${address}]`).hostname.slice(1).split(':')[0] || '0',
        16,
      );
      return (first >= 0x2000 && first <= 0x3fff) || !mayReach(address, publicOnly);
    }),
    { numRuns: 2_000 },
  );
});
