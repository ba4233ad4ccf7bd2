// Which of the forms we can give a caller prefers: `Accept` of RFC 9110 section 12.5.1.
// Next room: http/events.ts and http/audit.ts, which have two forms each.

interface Liking {
  /** From 0, unwanted, to 1. */
  quality: number;
  /** 0 for any type, 1 for all of its kind, 2 where it was named. */
  precision: number;
}

/** The offer that is liked best, in doubt the one that was named, then the first; null when none is acceptable. */
export function preferred<Offer extends string>(
  accept: string | undefined,
  offers: readonly Offer[],
): Offer | null {
  const ranges = accept === undefined || accept.trim() === '' ? ['*/*'] : accept.split(',');
  let best: { offer: Offer; liking: Liking } | null = null;
  for (const offer of offers) {
    const liking = likingOf(offer, ranges);
    if (liking.quality > 0 && (best === null || exceeds(liking, best.liking))) best = { offer, liking };
  }
  return best?.offer ?? null;
}

function exceeds(one: Liking, other: Liking): boolean {
  return one.quality === other.quality ? one.precision > other.precision : one.quality > other.quality;
}

// The most precise range that fits decides, whatever the others say of it.
function likingOf(offer: string, ranges: readonly string[]): Liking {
  const [kind] = offer.split('/') as [string];
  const precise = ['*/*', `${kind}/*`, offer];
  let found: Liking = { quality: 0, precision: -1 };
  for (const range of ranges) {
    const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const precision = precise.indexOf(name);
    if (precision > found.precision) found = { quality: qualityOf(parameters), precision };
  }
  return found;
}

function qualityOf(parameters: readonly string[]): number {
  const weight = parameters.find((parameter) => parameter.startsWith('q='));
  if (weight === undefined) return 1;
  const quality = Number(weight.slice(2));
  return quality >= 0 && quality <= 1 ? quality : 1;
}
