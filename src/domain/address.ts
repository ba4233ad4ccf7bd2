// Where a push may go. Whoever may submit a job could else make this server talk to whatever stands beside it: databases,
// metadata services, itself.
// Invariant: an address is reached only if it is a public unicast one or was allowed by ERRAND_PRIVATE_TARGETS; one that
// carries another inside (mapped, 6to4, NAT64, Teredo) is not public, whatever it carries.
// Next room: push.ts; roles/worker/target.ts asks again of every address a name leads to.

import ipaddr from 'ipaddr.js';

/** The addresses allowed besides public ones. */
export type AddressPolicy = readonly ReturnType<typeof ipaddr.parseCIDR>[];

/** Nothing but public addresses. */
export const publicOnly: AddressPolicy = [];

/** Public addresses and this machine's own. */
export const loopbackToo: AddressPolicy = [ipaddr.parseCIDR('127.0.0.0/8'), ipaddr.parseCIDR('::1/128')];

/** Reads `none`, `loopback`, CIDRs, or several with commas; throws RangeError with the part that is none of them. */
export function parsePrivateTargets(text: string): AddressPolicy {
  return text.split(',').flatMap((part) => {
    const word = part.trim();
    if (word === 'none') return publicOnly;
    if (word === 'loopback') return loopbackToo;
    if (!ipaddr.IPv4.isValidCIDRFourPartDecimal(word) && !ipaddr.IPv6.isValidCIDR(word)) {
      throw new RangeError(`"${word}" is neither none, loopback nor a CIDR such as 10.0.0.0/8`);
    }
    return [ipaddr.parseCIDR(word)];
  });
}

/** Tells whether an address, in the spelling of the system's resolver, may be reached. */
export function mayReach(address: string, policy: AddressPolicy): boolean {
  if (!ipaddr.IPv4.isValidFourPartDecimal(address) && !ipaddr.IPv6.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  if (policy.some(([range, bits]) => range.kind() === parsed.kind() && parsed.match(range, bits)))
    return true;
  // Azure's wire server answers every virtual machine there, at an address that is formally public.
  if (address === '168.63.129.16') return false;
  // Of IPv6 only 2000::/3 has been given out (RFC 4291 section 2.4); the rest is nobody's.
  return parsed.range() === 'unicast' && (parsed instanceof ipaddr.IPv4 || parsed.match(globalUnicast));
}

/** The answer to a URL a caller wants to have called. */
export type CheckedUrl =
  | { readonly kind: 'ok'; readonly url: string }
  | { readonly kind: 'fault'; readonly code: string; readonly detail: string };

/** Reads the URL of a target as the sender will, and says what is wrong with it. Names are resolved only when sending. */
export function checkTargetUrl(text: string, policy: AddressPolicy): CheckedUrl {
  if (text.length > longestUrl) return fault('too_big', `must have at most ${longestUrl} characters`);
  // WHATWG drops some of these in silence and takes "\" for "/"; other readers of the same URL do not.
  if (hasControls(text) || text.includes('\\')) {
    return fault('invalid_url', 'must not hold spaces, control characters or "\\"; percent-encode them');
  }
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    return fault('invalid_url', 'must be an absolute URL that begins with http:// or https://');
  }
  if (url.username !== '' || url.password !== '') {
    return fault('invalid_url', 'must not hold credentials; send them in headers');
  }
  if (text.includes('#')) return fault('invalid_url', 'must not hold a fragment; remove it');
  if (isRefusedPort(url.port)) {
    return fault(
      'refused_port',
      'names a port at which no HTTP service is expected; use 80, 443 or 1024 and above',
    );
  }
  if (!mayBeReached(url.hostname, policy)) {
    return fault(
      'refused_address',
      'leads to an address that may not be reached; see ERRAND_PRIVATE_TARGETS',
    );
  }
  return { kind: 'ok', url: url.href };
}

/** The address in the host of a URL, as the URL standard normalises it; null for a name. */
export function literalAddress(hostname: string): string | null {
  if (hostname.startsWith('[')) return hostname.slice(1, -1);
  return ipaddr.IPv4.isValidFourPartDecimal(hostname) ? hostname : null;
}

const longestUrl = 2_048;
const globalUnicast = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number];

// A caller chooses every byte of the body, so services that read line by line would find their commands in it.
const storePorts: ReadonlySet<number> = new Set([1433, 3306, 5432, 6379, 6432, 11211, 26379, 27017]);

function isRefusedPort(port: string): boolean {
  if (port === '' || port === '80' || port === '443') return false;
  return Number(port) < 1_024 || storePorts.has(Number(port));
}

function hasControls(text: string): boolean {
  return [...text].some((char) => char <= ' ' || char === '\x7f');
}

/** Names that lead nowhere public (RFC 6761, RFC 6762, cluster names) are told at once where nothing private is allowed. */
function mayBeReached(hostname: string, policy: AddressPolicy): boolean {
  const address = literalAddress(hostname);
  if (address !== null) return mayReach(address, policy);
  const name = hostname.replace(/\.+$/, '');
  if (/(^|\.)localhost$/.test(name)) return mayReach('127.0.0.1', policy) || mayReach('::1', policy);
  if (/\.(local|internal|svc)$/.test(name)) return policy.some((range) => !loopbackToo.includes(range));
  return name !== '';
}

function fault(code: string, detail: string): CheckedUrl {
  return { kind: 'fault', code, detail };
}
