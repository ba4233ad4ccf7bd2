// A bounded memory of things that are dear to make and the same for everybody who asks. Ten thousand schedules share few
// patterns and fewer zones.
// Invariant: never more than `limit` of them; the one not asked for longest goes first.
// Next room: domain/calendar.ts.

/** Makes what is asked for, and remembers the latest `limit` of it. */
export class Recent<Value> {
  readonly #limit: number;
  readonly #make: (key: string) => Value;
  readonly #known = new Map<string, Value>();

  constructor(limit: number, make: (key: string) => Value) {
    this.#limit = limit;
    this.#make = make;
  }

  of(key: string): Value {
    const known = this.#known.get(key);
    const value = known ?? this.#make(key);
    // Put behind the others, so that the first key is always the one not asked for longest.
    if (known !== undefined) this.#known.delete(key);
    else if (this.#known.size >= this.#limit) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.set(key, value);
    return value;
  }
}
