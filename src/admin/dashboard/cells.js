// Workers, a cell each: hollow while it waits, filled from below the longer it has been at its job, a dot for a place that is
// free. Where there are more than there is room for, a cell stands for several, the busiest first.

const BUSY = new Set(["processing", "api_call", "responding"]);
const LARGEST_CELL = 18;
const SMALLEST_CELL = 5;
const MOST_HIGH = 96;

/** How full a cell is after so many milliseconds: a quarter at once, all of it after a minute. */
const fullness = (ms) => Math.min(1, 0.25 + (0.75 * Math.log10(1 + ms / 100)) / Math.log10(601));
const age = (ms) => (ms < 1000 ? "blue" : ms < 10_000 ? "violet" : "bad");

class Crew {
  constructor() {
    this.canvas = make("canvas", { class: "cells", role: "img" });
    this.said = make("p", { class: "line" });
    this.workers = [];
    this.free = 0;
    this.at = null;
    this.gone = drawn(this.canvas, (context, width, height) => this.draw(context, width, height));
    this.canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => this.point([offsetX, offsetY]));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
  }

  /** The size of a cell, how many stand in a row, and how many workers each is. */
  grid(width) {
    const all = this.workers.length + this.free;
    for (let size = Math.round((LARGEST_CELL * LETTER) / 11); size >= SMALLEST_CELL; size -= 1) {
      const row = Math.max(1, Math.floor(width / size));
      if (Math.ceil(all / row) * size <= MOST_HIGH) return { size, row, each: 1 };
    }
    const row = Math.max(1, Math.floor(width / SMALLEST_CELL));
    return { size: SMALLEST_CELL, row, each: Math.ceil(all / (row * Math.floor(MOST_HIGH / SMALLEST_CELL))) };
  }

  fill({ per_worker: workers, workers: counts }) {
    this.workers = workers;
    this.free = Math.max(0, counts.max - workers.length);
    const width = this.canvas.clientWidth || 400;
    const { size, row, each } = this.grid(width);
    const rows = Math.max(1, Math.ceil(Math.ceil((workers.length + this.free) / each) / row));
    const height = `${rows * size}px`;
    if (this.canvas.style.height !== height) this.canvas.style.height = height;
    this.order = each === 1 ? workers : [...workers].sort((a, b) => (b.current_ms ?? -1) - (a.current_ms ?? -1));
    const busy = workers.filter(({ state: what }) => BUSY.has(what));
    const oldest = busy.reduce((most, { current_ms: ms }) => Math.max(most, ms ?? 0), 0);
    const rest = workers.length - busy.length;
    const parts = [busy.length ? `${busy.length} busy, the longest for ${span(oldest)}` : "none busy", `${rest} waiting`, `${this.free} places free of ${counts.max}`];
    if (counts.retired_total) parts.push(`${count(counts.retired_total)} retired so far`);
    this.text = parts.join(" · ") + (each > 1 ? ` · a cell is ${each} workers` : "");
    mark(this.canvas, "aria-label", `Workers: ${this.text}`);
    this.tell();
    if (inSight.has(this.canvas)) redraw();
  }

  point(at) {
    this.at = at;
    this.tell();
  }

  tell() {
    let text = this.text;
    if (this.at) {
      const { size, row, each } = this.grid(this.canvas.clientWidth);
      const worker = this.order[(Math.floor(this.at[1] / size) * row + Math.floor(this.at[0] / size)) * each];
      if (worker) {
        text = `Worker ${worker.id}: ${word(worker.state)}, ${count(worker.jobs_total)} jobs so far`;
        if (worker.request_id) text += `; at ${worker.request_id} for ${span(worker.current_ms)}`;
      }
    }
    write(this.said, text);
  }

  draw(context, width) {
    const { size, row, each } = this.grid(width);
    const gap = size >= 9 ? 2 : 1;
    const side = size - gap;
    const cells = Math.ceil((this.workers.length + this.free) / each);
    for (let n = 0; n < cells; n += 1) {
      const [x, y] = [(n % row) * size, Math.floor(n / row) * size];
      const worker = this.order[n * each];
      if (!worker) {
        context.fillStyle = colours.of("firm");
        const dot = Math.max(1, Math.round(side / 6));
        context.fillRect(x + (side - dot) / 2, y + (side - dot) / 2, dot, dot);
        continue;
      }
      const busy = BUSY.has(worker.state);
      context.strokeStyle = colours.of(busy ? age(worker.current_ms ?? 0) : "firm");
      context.setLineDash(worker.state === "starting" || worker.state === "shutdown" ? [2, 2] : []);
      context.lineWidth = 1;
      context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
      if (!busy) continue;
      const high = Math.max(2, side * fullness(worker.current_ms ?? 0));
      context.fillStyle = context.strokeStyle;
      context.fillRect(x, y + side - high, side, high);
    }
    context.setLineDash([]);
  }
}

