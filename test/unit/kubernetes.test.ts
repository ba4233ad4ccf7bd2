// Proves that the judge of Kubernetes objects notices what Kubernetes would refuse, and what it would drop.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Manifest } from '../support/helm.ts';
import { objectFaults } from '../support/kubernetes.ts';

test('a misspelt key, an unknown kind and a wrong type are noticed', async () => {
  const meta = { name: 'a', labels: {} };
  const broken: [string, object][] = [
    ['StatefulPod', { apiVersion: 'apps/v1', kind: 'StatefulPod', metadata: meta }],
    ['Service.spec.port', { apiVersion: 'v1', kind: 'Service', metadata: meta, spec: { port: [] } }],
    [
      'Service.spec.ports.targetport',
      { apiVersion: 'v1', kind: 'Service', metadata: meta, spec: { ports: [{ port: 1, targetport: 2 }] } },
    ],
    [
      'minReadySeconds',
      {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: meta,
        spec: { minReadySeconds: 'long', selector: {}, template: { metadata: meta } },
      },
    ],
    [
      'ServiceMonitor.spec.endpoints.paths',
      {
        apiVersion: 'monitoring.coreos.com/v1',
        kind: 'ServiceMonitor',
        metadata: meta,
        spec: { endpoints: [{ paths: '/' }] },
      },
    ],
    ['"A_b" is no name', { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { ...meta, name: 'A_b' } }],
  ];
  for (const [fault, object] of broken) {
    const faults = await objectFaults(object as Manifest);
    assert.equal(faults.length, 1, `${fault}: ${faults.join('; ')}`);
    assert.ok(faults[0]?.includes(fault), faults[0]);
  }
});
