// Least and greatest values of stretches of time, kept beside the rows: an hour is drawn from these, not from its rows.

const START = 256;

/** Stretches of at most `bucket` seconds; a pause longer than `gap` begins a new one. */
export class Level {
  length = 0;
  private next = 0;
  private room = START;
  private data: Float64Array;
  private readonly stride: number;

  constructor(readonly bucket: number, private readonly width: number, private readonly limit: number) {
    this.stride = 2 * width;
    this.data = new Float64Array(this.room * this.stride);
  }

  clear(): void {
    this.length = this.next = 0;
  }

  /** Take rows that lie behind one another, `width` numbers each, the time first. */
  push(rows: Float64Array, gap: number): void {
    for (let from = 0; from < rows.length; from += this.width) {
      const t = rows[from] as number;
      const last = this.length ? this.last(this.length - 1) : NaN;
      const same = Math.floor(t / this.bucket) === Math.floor(last / this.bucket) && t - last <= gap;
      if (same) this.widen(rows, from);
      else this.begin(rows, from);
    }
  }

  first(i: number): number { return this.data[this.place(i)] as number; }
  last(i: number): number { return this.data[this.place(i) + 1] as number; }
  low(i: number, column: number): number { return this.data[this.place(i) + 2 * column] as number; }
  high(i: number, column: number): number { return this.data[this.place(i) + 2 * column + 1] as number; }

  /** Index of the first stretch that ends at or after `t`. */
  lower(t: number): number {
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.last(middle) < t) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private place(i: number): number {
    return ((this.next - this.length + i) % this.room) * this.stride;
  }

  private begin(rows: Float64Array, from: number): void {
    if (this.length === this.room && this.room < this.limit) this.grow();
    this.next++;
    if (this.length < this.room) this.length++;
    const place = this.place(this.length - 1);
    for (let c = 0; c < this.width; c++) this.data[place + 2 * c] = this.data[place + 2 * c + 1] = rows[from + c] as number;
  }

  private widen(rows: Float64Array, from: number): void {
    const place = this.place(this.length - 1);
    this.data[place + 1] = rows[from] as number;
    for (let c = 1; c < this.width; c++) {
      const value = rows[from + c] as number;
      // Written so that a value takes the place of NaN, and NaN of nothing.
      if (!(value >= (this.data[place + 2 * c] as number)) && value === value) this.data[place + 2 * c] = value;
      if (!(value <= (this.data[place + 2 * c + 1] as number)) && value === value) this.data[place + 2 * c + 1] = value;
    }
  }

  private grow(): void {
    const room = Math.min(this.room * 2, this.limit);
    const data = new Float64Array(room * this.stride);
    for (let i = 0; i < this.length; i++) data.set(this.data.subarray(this.place(i), this.place(i) + this.stride), i * this.stride);
    this.next = this.length;
    this.room = room;
    this.data = data;
  }
}
