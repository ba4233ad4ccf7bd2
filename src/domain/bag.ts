// Things under way, in no order, that come and go by the ten thousand a second.
// Not a Set: its tables are replaced as it is added to and deleted from, and once one of them has outlived a collection, each
// holds on to the next, and so to everything that was ever in them. That cost more than all that is done for a submit.
// Invariant: a thing is in one bag at most, and takes the place of none but the last when it goes.
// Next room: roles/api.ts and roles/worker/worker.ts, which hold what they are at in one.

/** Where a thing lies in the bag that holds it. */
const place = Symbol('place');

type Placed<T> = T & { [place]?: number };

export class Bag<T extends object> {
  #items: Placed<T>[] = [];

  get size(): number {
    return this.#items.length;
  }

  add(item: T): void {
    (item as Placed<T>)[place] = this.#items.push(item) - 1;
  }

  /** Takes a thing out that is in. */
  delete(item: T): void {
    const at = (item as Placed<T>)[place] as number;
    const last = this.#items.pop() as Placed<T>;
    if (last === item) return;
    this.#items[at] = last;
    last[place] = at;
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#items.values();
  }

  some(is: (item: T) => boolean): boolean {
    return this.#items.some(is);
  }
}
