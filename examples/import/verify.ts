// Compares the table with the data set: count, checksum over every row, and the sums, which would show any repetition.
// Exit code 0 and "equal", or 1 and both sides.
// Settings: DATABASE_URL of the application, CITIES (how many were submitted; default all).
import { Client } from 'pg';
import { checksumOf, readCities } from './cities.ts';

const tableFacts = `
  select
    (select count(*) from atlas.city)::text as cities,
    (select md5(string_agg(concat_ws('|', city_id, name, country, population, longitude, latitude), e'\\n'
      order by city_id)) from atlas.city) as checksum,
    (select sum(cities) from atlas.country)::text as cities_summed,
    (select sum(population) from atlas.country)::text as population_summed`;

const cities = readCities(Number(process.env.CITIES ?? Number.POSITIVE_INFINITY));
const expected = {
  cities: String(cities.length),
  checksum: checksumOf(cities),
  cities_summed: String(cities.length),
  population_summed: String(cities.reduce((sum, city) => sum + city.population, 0)),
};

const client = new Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
const { rows } = await client.query<typeof expected>(tableFacts);
const { rows: again } = await client.query<{ calls: string }>(
  'select count(*) as calls from atlas.slice where calls > 1',
);
await client.end();

console.log(`data set: ${JSON.stringify(expected)}`);
console.log(`table:    ${JSON.stringify(rows[0])}`);
console.log(`${again[0]?.calls} slices were sent more than once`);
const isEqual = JSON.stringify(rows[0]) === JSON.stringify(expected);
console.log(isEqual ? 'equal' : 'NOT equal');
process.exitCode = isEqual ? 0 : 1;
