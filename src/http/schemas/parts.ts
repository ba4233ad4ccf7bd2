// What a merge patch (RFC 7396) may say of an object whose whole has a schema already.
// Invariant: a patch is refused where no whole could hold what it says; the whole is checked again once it is merged.
// Next room: schedule.ts and queue.ts, which have patches.
import { z } from 'zod';

/** Every member, in depth, as a patch may have it: left out, or null where it has a default or may be missing. */
export function partsOf(shape: Readonly<Record<string, z.ZodType>>): Record<string, z.ZodType> {
  return Object.fromEntries(
    Object.entries(shape).map(([member, schema]) => {
      const part = partOf(schema);
      const patched = schema.safeParse(undefined).success ? part.nullable().optional() : part.optional();
      return [member, schema.description === undefined ? patched : patched.describe(schema.description)];
    }),
  );
}

function partOf(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodOptional || schema instanceof z.ZodNullable)
    return partOf(schema.unwrap() as z.ZodType);
  if (schema instanceof z.ZodObject) return z.strictObject(partsOf(schema.shape));
  if (schema instanceof z.ZodRecord)
    return z.record(schema.keyType as z.ZodString, partOf(schema.valueType as z.ZodType).nullable());
  return schema;
}
