// The one payload of every figure: about 220 bytes of JSON as a shop might send it.
// Next room: contestants/, which enqueue it.

export const payload = {
  order: 'ord_01JD8Z6V4T3K9Q7M2X5N',
  customer: { id: 48_213, email: 'ada@example.com' },
  lines: [
    { sku: 'A-1001', quantity: 2, cents: 1_995 },
    { sku: 'B-2040', quantity: 1, cents: 12_900 },
  ],
  total_cents: 16_890,
  note: 'at the door',
};

export const payloadText = JSON.stringify(payload);
