// Proves of the chart what an operator would meet: what it renders is what Kubernetes knows, fits together and starts the
// program; and values that cannot work are refused with the reason. Where there is no helm and no stand-in for it can be
// built, the tests are skipped with the reason: not run, never passed.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { readDeclared } from '../../src/declared.ts';
import { assertFitting, configOf, ofKind, podsOf } from '../support/chart.ts';
import { findProgram } from '../support/children.ts';
import { chart, findRenderer, type Manifest, Refused } from '../support/helm.ts';
import { objectFaults } from '../support/kubernetes.ts';
import { runPod } from './chart-pod.ts';

const ci = (name: string) => join(chart, 'ci', `${name}-values.yaml`);
const examples = ['default', 'production', 'split-roles', 'all-off'];
const release = 'jobs';

const { render, skip } = await findRenderer();
const options = { skip };

for (const example of examples) {
  test(`what the ${example} values render is what Kubernetes knows`, options, async () => {
    const { objects } = await render(release, ci(example));
    assert.ok(objects.length >= 3);
    for (const object of objects) assert.deepEqual(await objectFaults(object), []);
    const names = objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    assert.equal(new Set(names).size, names.length);
  });

  test(`what the ${example} values render fits together`, options, async () => {
    assertFitting((await render(release, ci(example))).objects);
  });

  test(`the pods of the ${example} values start the program and outlive its drain`, options, async () => {
    const { objects } = await render(release, ci(example));
    const paths = Object.keys(
      JSON.parse(readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8')).paths,
    );
    for (const { spec } of podsOf(ofKind(objects, 'Deployment'))) {
      const [container, ...others] = spec.containers;
      assert.ok(container !== undefined && others.length === 0);
      const config = configOf(container, objects);
      assert.deepEqual(
        container.ports?.map(({ containerPort }) => containerPort),
        [config.PORT],
      );
      for (const { httpGet } of [container.startupProbe, container.livenessProbe, container.readinessProbe]) {
        assert.ok(paths.includes(httpGet.path), httpGet.path);
        assert.equal(httpGet.port, container.ports?.[0]?.name);
      }
      const { periodSeconds, failureThreshold } = container.startupProbe;
      assert.ok(periodSeconds * failureThreshold >= config.startWaitSeconds + 60);
      // The program waits by itself; a preStop would come on top.
      assert.equal(container.lifecycle, undefined);
      assert.ok(config.ERRAND_DRAIN_DEADLINE_SECONDS > config.drainDelaySeconds);
      const afterwards = config.ERRAND_STATEMENT_TIMEOUT_SECONDS + 1;
      assert.ok(spec.terminationGracePeriodSeconds > config.ERRAND_DRAIN_DEADLINE_SECONDS + afterwards);
      if (config.ERRAND_SCHEDULES !== undefined)
        assert.equal(readDeclared(config.ERRAND_SCHEDULES, 'schedules.yaml').length, 1);
    }
    for (const { spec } of podsOf(ofKind(objects, 'Job')))
      for (const container of spec.containers) assert.ok(configOf(container, objects).DATABASE_URL);
  });

  test(`the pods of the ${example} values may nothing that Errand does not need`, options, async () => {
    const { objects } = await render(release, ci(example));
    for (const { spec } of podsOf(objects)) {
      assert.equal(spec.automountServiceAccountToken, false);
      // A Service called errand would put ERRAND_PORT into every pod, and the program refuses what it does not know.
      assert.equal(spec.enableServiceLinks, false);
      assert.deepEqual(spec.securityContext, {
        runAsNonRoot: true,
        runAsUser: 1000,
        runAsGroup: 1000,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      for (const { securityContext } of spec.containers)
        assert.deepEqual(securityContext, {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
    }
  });
}

test('a pod runs as its manifest says, from the migration to the end of its drain', options, (t) =>
  runPod(render, t),
);

test('Secrets are named as the values say, and no credential is rendered', options, async () => {
  const { objects } = await render(release, ci('production'));
  const [pod] = podsOf(ofKind(objects, 'Deployment'));
  const named = pod?.spec.containers[0]?.env.flatMap(({ name, valueFrom }) =>
    valueFrom === undefined ? [] : [`${name} ${valueFrom.secretKeyRef.name} ${valueFrom.secretKeyRef.key}`],
  );
  assert.deepEqual(named, [
    'DATABASE_URL errand-database DATABASE_URL',
    'ERRAND_DIRECT_DATABASE_URL errand-database DIRECT_URL',
    'REDIS_URL errand-redis url',
    'ERRAND_SIGNING_SECRETS errand-signing ERRAND_SIGNING_SECRETS',
    'SMTP_PASSWORD smtp password',
  ]);
});

test(
  'the network lets in who is named and out to what the values name, targets for workers only',
  options,
  async () => {
    const { objects } = await render(release, ci('production'));
    const [base, targets] = ofKind(objects, 'NetworkPolicy').map(({ spec }) => spec);
    assert.equal(base?.ingress?.[0]?.from.length, 3);
    assert.deepEqual(base?.ingress?.[0]?.ports, [{ protocol: 'TCP', port: 'http' }]);
    assert.deepEqual(
      base?.egress?.map(({ ports }) => ports.map(({ port }) => port)),
      [[53, 53], [6432, 5432], [6379], [587]],
    );
    assert.deepEqual(
      base?.egress?.map(({ to }) => to?.length ?? 0),
      [0, 1, 0, 1],
    );
    const [pod] = podsOf(ofKind(objects, 'Deployment'));
    const privately = pod?.spec.containers[0]?.env.find(
      ({ name }) => name === 'ERRAND_PRIVATE_TARGETS',
    )?.value;
    assert.deepEqual(targets?.egress?.[0]?.to?.slice(2), [{ ipBlock: { cidr: privately } }]);
    const alone = ofKind((await render(release, ci('default'))).objects, 'NetworkPolicy')[0]?.spec;
    assert.deepEqual(alone?.ingress?.[0]?.from, [{ podSelector: {} }]);
    assert.deepEqual(
      alone?.egress?.map(({ ports }) => ports.map(({ port }) => port)),
      [[53, 53], [5432]],
    );
  },
);

test(
  'the Ingress has nginx hand on demands by the line that the drill of proxies has proven',
  options,
  async () => {
    const [ingress] = ofKind((await render(release, ci('production'))).objects, 'Ingress');
    const line = ingress?.metadata.annotations?.['nginx.ingress.kubernetes.io/configuration-snippet']?.trim();
    const proven = readFileSync(new URL('../../examples/proxies/nginx.conf', import.meta.url), 'utf8');
    assert.ok(line?.startsWith('proxy_set_header Errand-Expect ') && proven.includes(line), line);
  },
);

/** Alerts by what makes them fire: a metric, a quiet and a loud value of it, and for how many minutes it must be loud. */
const alerts = {
  ErrandQueueSaturated: ['errand_queue_saturated', 0, 1, 5],
  ErrandJobsUnserved: ['errand_unserved_jobs', 0, 1, 10],
  ErrandCounterDrift: ['errand_counter_drift', 100, -101, 0],
  ErrandSchedulesLate: ['errand_schedule_oldest_due_seconds', 30, 31, 1],
  ErrandNoLeader: ['errand_leader', 1, 0, 2],
  ErrandInvariantViolated: ['errand_invariant_violations_total', 0, 1, 0],
} as const;

test(
  'there is an alert for what operators should look at, and each goes by metrics that there are',
  options,
  async () => {
    const rules = alertsOf((await render(release, ci('production'))).objects);
    assert.deepEqual(rules.map(({ alert }) => alert).sort(), Object.keys(alerts).sort());
    const metrics = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
    const guide = readFileSync(new URL('../../docs/guides/operations.md', import.meta.url), 'utf8');
    for (const { alert, expr } of rules) {
      for (const [name] of expr.matchAll(/errand_\w+/g)) assert.ok(metrics.includes(`\`${name}\``), name);
      assert.ok(guide.includes(`\`${alert}\``), `${alert} is in the guide`);
    }
  },
);

test(
  'each alert fires for its own release alone, when it was bad for long enough, and stops',
  options,
  async (t) => {
    const promtool = findProgram('promtool');
    if (promtool === null) return t.diagnostic('promtool is not installed: the alerts were not tried');
    const groups = ofKind((await render(release, ci('production'))).objects, 'PrometheusRule')[0]?.spec
      ?.groups;
    const folder = await mkdtemp(join(tmpdir(), 'errand-alerts-'));
    t.after(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, 'rules.json'), JSON.stringify({ groups }));
    const tests = Object.entries(alerts).map(([alert, [metric, quiet, loud, minutes]]) => {
      const of = (name: string) =>
        `${metric}{namespace="jobs",service="${name}-errand-metrics",queue="mail"}`;
      const firing = (at: number, count: number) => ({
        expr: `count(ALERTS{alertname="${alert}",alertstate="firing"}) or vector(0)`,
        eval_time: `${at}m`,
        exp_samples: [{ labels: '{}', value: count }],
      });
      // A counter stays where it is; what it counted is forgotten after ten minutes.
      const after = alert === 'ErrandInvariantViolated' ? loud : quiet;
      return {
        interval: '1m',
        input_series: [
          { series: of(release), values: `${quiet}+0x9 ${loud}+0x19 ${after}+0x19` },
          { series: of('another'), values: `${loud}+0x50` },
        ],
        promql_expr_test: [
          ...[firing(9, 0), firing(10 + minutes, 1), firing(45, 0)],
          ...(minutes > 0 ? [firing(9 + minutes, 0)] : []),
        ],
      };
    });
    const file = join(folder, 'tests.json');
    await writeFile(file, JSON.stringify({ rule_files: ['rules.json'], evaluation_interval: '1m', tests }));
    const tried = spawnSync(promtool, ['test', 'rules', file], { encoding: 'utf8' });
    assert.equal(tried.status, 0, tried.stdout + tried.stderr);
  },
);

function alertsOf(objects: readonly Manifest[]) {
  return ofKind(objects, 'PrometheusRule').flatMap(
    ({ spec }) => spec?.groups?.flatMap(({ rules }) => rules) ?? [],
  );
}

test('the values that the guide shows can be rendered', options, async () => {
  const guide = readFileSync(new URL('../../docs/guides/kubernetes.md', import.meta.url), 'utf8');
  const shown = [...guide.matchAll(/^```yaml\n(.+?)^```/gms)].map(([, text]) => parse(text ?? '') as object);
  assert.ok(shown.length >= 3);
  for (const values of shown)
    for (const object of (await render(release, ci('default'), values)).objects)
      assert.deepEqual(await objectFaults(object), []);
});

test('a longer statement timeout makes the grace period longer', options, async () => {
  const value = '30.5';
  const more = { extraEnv: [{ name: 'ERRAND_STATEMENT_TIMEOUT_SECONDS', value }] };
  const [pod] = podsOf(ofKind((await render(release, ci('default'), more)).objects, 'Deployment'));
  assert.equal(pod?.spec.terminationGracePeriodSeconds, 20 + 31 + 6);
});

test('what is off leaves nothing behind', options, async () => {
  const { objects } = await render(release, ci('all-off'));
  assert.deepEqual(objects.map(({ kind }) => kind).sort(), ['Deployment', 'Service', 'ServiceAccount']);
});

test(
  'each role apart does its own: only the API reads schedules, only workers have handlers and targets',
  options,
  async () => {
    const { objects } = await render(release, ci('split-roles'));
    const told = ofKind(objects, 'Deployment').map(({ metadata, spec }) => {
      const container = spec?.template?.spec.containers[0];
      assert.ok(container !== undefined);
      const config = configOf(container, objects);
      const has = [config.ERRAND_SCHEDULES && 'schedules', config.ERRAND_HANDLERS_DIR && 'handlers'];
      return `${metadata.name} x ${spec?.replicas}: ${config.ERRAND_ROLES} ${has.filter(Boolean).join(' ')}`;
    });
    assert.deepEqual(told, [
      'jobs-errand-api x 3: api schedules',
      'jobs-errand-worker x 4: worker handlers',
      'jobs-errand-dispatcher x 2: dispatcher ',
    ]);
    const targets = ofKind(objects, 'NetworkPolicy').find(({ metadata }) =>
      metadata.name.endsWith('-targets'),
    );
    assert.equal(targets?.spec?.podSelector?.matchLabels['app.kubernetes.io/component'], 'worker');
  },
);

test('other schedules are other pods, and only of those that read them', options, async () => {
  const annotations = async (more: object) =>
    podsOf((await render(release, ci('split-roles'), more)).objects).map(
      ({ metadata }) => metadata.annotations,
    );
  const before = await annotations({});
  const after = await annotations({ schedules: 'schedules: []\n' });
  assert.notDeepEqual(before[0], after[0]);
  assert.deepEqual(before.slice(1), [undefined, undefined, undefined]);
});

test('the migration names nothing that the chart creates, because it runs before', options, async () => {
  for (const example of ['default', 'production', 'split-roles']) {
    const [job] = ofKind((await render(release, ci(example))).objects, 'Job');
    assert.equal(job?.metadata.annotations?.['helm.sh/hook'], 'pre-install,pre-upgrade');
    const spec = job?.spec?.template?.spec;
    assert.deepEqual([spec?.serviceAccountName, spec?.volumes], [undefined, undefined]);
    assert.deepEqual(spec?.containers[0]?.command, ['node', 'dist/main.js', 'migrate']);
  }
});

test('what the chart sets itself cannot be set beside it', options, async () => {
  const { objects } = await render(release, ci('production'), { extraEnv: [] });
  const [pod] = podsOf(ofKind(objects, 'Deployment'));
  const names = pod?.spec.containers[0]?.env.map(({ name }) => name) ?? [];
  assert.ok(names.length > 10);
  for (const name of names)
    await assert.rejects(render(release, ci('default'), { extraEnv: [{ name, value: '1' }] }), Refused, name);
});

/** The most connections to Postgres while the processes of all Deployments are replaced, by what the program opens. */
function neededConnections(objects: readonly Manifest[]): number {
  const perDeployment = ofKind(objects, 'Deployment').map(({ spec }) => {
    const container = spec?.template?.spec.containers[0];
    assert.ok(container !== undefined && spec?.strategy !== undefined);
    const config = configOf(container, objects);
    const { maxSurge, maxUnavailable } = spec.strategy.rollingUpdate;
    assert.equal(maxUnavailable, 0);
    // Else more of those that were replaced could still drain.
    assert.ok((spec.minReadySeconds ?? 0) >= (spec.template?.spec.terminationGracePeriodSeconds ?? 0));
    const office = config.ERRAND_ROLES.includes('dispatcher') ? 2 : 0;
    const { ERRAND_INTAKE_CONNECTIONS, ERRAND_ENGINE_CONNECTIONS, ERRAND_READ_CONNECTIONS } = config;
    const pools = ERRAND_INTAKE_CONNECTIONS + ERRAND_ENGINE_CONNECTIONS + ERRAND_READ_CONNECTIONS + office;
    const listens = 1;
    return ((spec.replicas ?? 0) + 2 * maxSurge) * ((config.ERRAND_POOLER ? 0 : pools) + listens);
  });
  return perDeployment.reduce((sum, one) => sum + one, 2 * ofKind(objects, 'Job').length);
}

for (const example of examples) {
  test(`the connections of the ${example} values fit to the last one and not beyond`, options, async () => {
    const { objects } = await render(release, ci(example));
    const pooler = { pooler: { serverConnections: 30 } };
    const needed = neededConnections(objects) + (example === 'production' ? 30 : 0) + 7;
    const limit = (maxConnections: number) => ({
      database: { maxConnections, reservedConnections: 7, ...(example === 'production' ? pooler : {}) },
    });
    await render(release, ci(example), limit(needed));
    await assert.rejects(render(release, ci(example), limit(needed - 1)), (error: Error) => {
      assert.ok(error instanceof Refused);
      assert.match(error.message, new RegExp(`up to ${needed - 7} of ${needed - 8} connections`));
      return true;
    });
  });
}

const refused = readdirSync(join(chart, 'ci/refused')).map((name) => join(chart, 'ci/refused', name));

for (const file of refused) {
  const [first = ''] = readFileSync(file, 'utf8').split('\n', 1);
  const reason = /^# refused: (.+)$/.exec(first)?.[1];
  test(`refused: ${reason}`, options, async () => {
    assert.ok(reason !== undefined, `${file} begins with the reason`);
    await assert.rejects(render(release, ci('default'), file), (error: Error) => {
      assert.ok(error instanceof Refused);
      assert.ok(error.message.replaceAll('/', '.').includes(reason.replaceAll('/', '.')), error.message);
      return true;
    });
  });
}

test('releases of a namespace do not share a name, however long or alike theirs are', options, async () => {
  const long = 'a'.repeat(52);
  const suffixes = ['api', 'worker', 'dispatcher', 'metrics', 'migrate', 'schedules', 'targets'];
  const like = suffixes.flatMap((suffix) => [`errand-${suffix}`, `errand-x-errand-${suffix}`]);
  const plain = ['errand', 'x', 'x-errand', 'errand-x', 'errand-x-errand', '42', `${long}b`, `${long}c`];
  const seen = new Map<string, string>();
  for (const name of [...plain, ...like]) {
    const { objects } = await render(name, ci('split-roles'));
    const together = (await render(name, ci('production'))).objects;
    for (const object of [...objects, ...together]) {
      assert.deepEqual(await objectFaults(object), []);
      const key = `${object.kind} ${object.metadata.name}`;
      assert.equal(seen.get(key) ?? name, name, `${key} of ${name}`);
      seen.set(key, name);
    }
    const selectors = ofKind(objects, 'Deployment').map(({ spec }) => spec?.selector?.matchLabels);
    for (const selector of selectors) assert.equal(selector?.['app.kubernetes.io/instance'], name);
  }
});

test('names that look like numbers and large numbers stay what they are', options, async () => {
  const odd = { redis: { url: { secret: '007' } }, migration: { deadlineSeconds: 1_000_000 } };
  const { objects } = await render(release, ci('default'), odd);
  for (const object of objects) assert.deepEqual(await objectFaults(object), []);
});
