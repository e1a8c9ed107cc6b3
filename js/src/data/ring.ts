// The newest rows, oldest first, in one typed array that grows up to a limit.

const START = 1024;

export class Ring {
  /** Rows that are kept. */
  length = 0;
  /** Number of the next row, counted from the first row ever sampled. */
  next = 0;
  private data: Float64Array;
  private room: number;

  constructor(
    readonly width: number,
    readonly limit: number,
  ) {
    this.room = Math.min(START, limit);
    this.data = new Float64Array(this.room * width);
  }

  /** Forget everything; the next row is number `seq`. */
  reset(seq: number): void {
    this.length = 0;
    this.next = seq;
  }

  /** Append rows that lie behind one another in `rows`. */
  push(rows: Float64Array): void {
    const count = rows.length / this.width;
    while (this.length + count > this.room && this.room < this.limit) this.grow();
    for (let i = 0; i < count; i++) {
      const row = rows.subarray(i * this.width, (i + 1) * this.width);
      this.data.set(row, (this.next % this.room) * this.width);
      this.next++;
      if (this.length < this.room) this.length++;
    }
  }

  /** Jump over rows that never arrived. */
  skip(seq: number): void {
    // The places of rows are their numbers modulo the room, so what is kept is laid out anew.
    const kept = this.copy();
    this.next = seq - this.length;
    this.length = 0;
    this.push(kept);
  }

  /** Time of the i-th row. */
  time(i: number): number {
    return this.value(i, 0);
  }

  /** Number in column `c` of the i-th row; column 0 is the time. */
  value(i: number, c: number): number {
    const place = (this.next - this.length + i) % this.room;
    return this.data[place * this.width + c] ?? NaN;
  }

  /** Index of the first row at or after `t`. */
  lower(t: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.time(middle) < t) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private copy(): Float64Array {
    const out = new Float64Array(this.length * this.width);
    for (let i = 0; i < this.length; i++) {
      const place = (this.next - this.length + i) % this.room;
      out.set(this.data.subarray(place * this.width, (place + 1) * this.width), i * this.width);
    }
    return out;
  }

  private grow(): void {
    const kept = this.copy();
    const seq = this.next;
    this.room = Math.min(this.room * 2, this.limit);
    this.data = new Float64Array(this.room * this.width);
    this.next = seq - this.length;
    this.length = 0;
    for (let i = 0; i < kept.length; i += this.width) {
      this.data.set(kept.subarray(i, i + this.width), (this.next % this.room) * this.width);
      this.next++;
      this.length++;
    }
  }
}
