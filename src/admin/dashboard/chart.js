// Lines over time, on canvas: drawn when they are in sight, for a few thousand points a second.

const OVERALL = ["in_flight", "rss_bytes", "succeeded", "failed", "cancelled", "total_p50_us", "total_p99_us"];
const LANE = ["depth", "configured", "active", "busy", "completed", "failed", "refused", "wait_p50_us", "wait_p99_us", "service_p50_us", "service_p99_us", "breaker"];
const LONGEST = 900;
/** Past this many milliseconds without a sample a line is broken. */
const GAP = 3500;

/** Appends what `/history` brought. Columns stay as long as `state.at`; what is not known is `null`. */
function remember(history) {
  const from = state.at.length;
  const came = history.at_ms.length;
  if (came === 0) return;
  state.at.push(...history.at_ms);
  const extend = (columns, names, more) => {
    for (const name of names) {
      columns[name] ??= new Array(from).fill(null);
      const column = more?.[name] ?? [];
      for (let n = 0; n < came; n += 1) columns[name].push(column[n] ?? null);
    }
  };
  extend(state.overall, OVERALL, history);
  const there = new Map(Object.entries(history.providers));
  for (const name of state.lanes.keys()) if (!there.has(name)) state.lanes.delete(name);
  for (const [name, more] of there) {
    if (!state.lanes.has(name)) state.lanes.set(name, {});
    extend(state.lanes.get(name), LANE, more);
  }
  const over = state.at.length - LONGEST;
  if (over > 0) {
    state.at.splice(0, over);
    for (const columns of [state.overall, ...state.lanes.values()]) for (const column of Object.values(columns)) column.splice(0, over);
  }
}

/** What is counted, as so many a second. */
const perSecond = (name) => (columns, n) => {
  const value = columns[name]?.[n];
  if (!known(value)) return null;
  const since = n > 0 ? state.at[n] - state.at[n - 1] : 1000;
  return (value * 1000) / Math.max(since, 1);
};
const plain = (name) => (columns, n) => columns[name]?.[n] ?? null;

/** The last sample at or before a moment, no further than the lines reach. */
function sampleAt(ms) {
  let low = 0;
  let high = state.at.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (state.at[middle] <= ms) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

const nowSample = () => state.at.length - 1;
const shownSample = () => (state.cursor === null ? nowSample() : sampleAt(state.cursor));
const shownFrom = () => (state.at.at(-1) ?? 0) - state.range * 1000;

/** The next number that is round. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 0.9999) * power;
}

const inSight = new Set();
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) inSight.add(target);
    else inSight.delete(target);
  }
  redraw();
}, { rootMargin: "100px" });
const sizes = new ResizeObserver(() => redraw());

let drawing = false;
/** Has all that is in sight drawn before the next frame. */
function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    measure();
    for (const canvas of inSight) canvas.draw?.();
  });
}

/** Has `draw(context, width, height)` called for a canvas whenever it is to be drawn, in pixels of the page. */
function drawn(canvas, draw) {
  canvas.draw = () => {
    const { width, height } = canvas.getBoundingClientRect();
    if (width < 2 || height < 2) return;
    const dense = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * dense), Math.round(height * dense)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const context = canvas.getContext("2d");
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.clearRect(0, 0, width, height);
    draw(context, width, height);
  };
  sight.observe(canvas);
  sizes.observe(canvas);
  return () => {
    sight.unobserve(canvas);
    sizes.unobserve(canvas);
    inSight.delete(canvas);
  };
}

/** Room around a plot, for letters of the page's size. */
const RIGHT = 4;
let [LETTER, LEFT, TOP, BOTTOM] = [11, 46, 13, 17];
function measure() {
  const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 15;
  [LETTER, LEFT, TOP, BOTTOM] = [11, 46, 13, 17].map((size) => Math.round(size * scale));
}

/**
 * One chart. `series` have a label, a colour, `of(columns, n)` and a way: `line`, `dash`, `fill` or `bars`. On a scale of
 * times, which is logarithmic, a peak stays; elsewhere what falls on one spot is averaged, and bars show the largest.
 */
class Chart {
  constructor(title, unit, format, series, isTime = false) {
    Object.assign(this, { title, format, series, isTime });
    this.columns = () => null;
    this.marks = () => [];
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.legend = series.map(({ label, colour, way }) => {
      const value = make("b", {}, UNKNOWN);
      const kind = way === "dash" ? "swatch dash" : way === "line" ? "swatch" : "swatch fill";
      return { value, node: make("i", {}, make("span", { class: `${kind} c-${colour}` }), `${label} `, value) };
    });
    this.node = make("figure", {}, make("figcaption", {}, make("strong", {}, title, make("span", {}, unit && ` · ${unit}`)), ...this.legend.map(({ node }) => node)), this.canvas);
    this.gone = drawn(this.canvas, (...room) => this.draw(...room));
  }

  /** The values of a moment, beside their labels. */
  tell(n) {
    const columns = this.columns();
    return this.series.map(({ label, of }, at) => {
      const value = columns && n >= 0 ? of(columns, n) : null;
      const text = this.format(value);
      write(this.legend[at].value, text);
      return `${label} ${known(value) ? text : "unknown"}`;
    });
  }

  points({ of, way }, columns, from, width) {
    const wide = (state.range * 1000) / Math.max(1, Math.floor(width / 2));
    const peaks = this.isTime || way === "bars";
    const points = [];
    let spot = null;
    for (let n = Math.max(0, sampleAt(from)); n < state.at.length; n += 1) {
      const value = of(columns, n);
      const number = Math.floor(state.at[n] / wide);
      if (spot && spot.number === number && known(value) && spot.value !== null) {
        spot.value = peaks ? Math.max(spot.value, value) : (spot.value * spot.of + value) / (spot.of + 1);
        spot.of += 1;
      } else if (!spot || spot.number !== number) {
        spot = { number, at: state.at[n], value, of: 1, broken: n > 0 && state.at[n] - state.at[n - 1] > GAP };
        points.push(spot);
      } else if (known(value)) {
        spot.value = value;
      }
    }
    return points;
  }

  draw(context, width, height) {
    const columns = this.columns();
    const plot = { w: width - LEFT - RIGHT, h: height - TOP - BOTTOM };
    const [soft, line] = [colours.of("soft"), colours.of("line")];
    context.font = `${LETTER}px ${getComputedStyle(document.documentElement).fontFamily}`;
    context.lineWidth = 1;
    const to = state.at.at(-1) ?? 0;
    const from = shownFrom();
    const x = (ms) => LEFT + ((ms - from) / (to - from || 1)) * plot.w;
    const lines = columns ? this.series.map((series) => ({ series, points: this.points(series, columns, from, plot.w) })) : [];
    const values = lines.flatMap(({ points }) => points.map((point) => point.value)).filter((value) => value !== null);
    const { y, ticks } = this.scale(values, plot);

    context.fillStyle = soft;
    context.strokeStyle = line;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const tick of ticks) {
      const at = Math.round(y(tick)) + 0.5;
      context.beginPath();
      context.moveTo(LEFT, at);
      context.lineTo(LEFT + plot.w, at);
      context.stroke();
      context.fillText(this.label(tick), LEFT - 5, at);
    }
    this.times(context, from, to, x, height, plot);
    if (values.length === 0) {
      context.textAlign = "center";
      context.fillText(state.at.length < 2 ? "no sample yet" : "nothing in this time", LEFT + plot.w / 2, TOP + plot.h / 2);
    }
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, plot.w + RIGHT, TOP + plot.h + 1);
    context.clip();
    for (const { series, points } of lines) this.trace(context, series, points, x, y, TOP + plot.h, plot.w);
    this.flags(context, from, to, x, plot);
    if (state.cursor !== null && state.at.length > 0) {
      const at = Math.round(x(state.at[Math.max(0, shownSample())])) + 0.5;
      context.setLineDash([]);
      context.strokeStyle = colours.of("text");
      context.beginPath();
      context.moveTo(at, TOP - 4);
      context.lineTo(at, TOP + plot.h);
      context.stroke();
    }
    context.restore();
  }

  scale(values, plot) {
    if (!this.isTime) {
      const most = Math.max(1, ...values);
      const unit = this.format === bytes ? 1024 ** Math.floor(Math.log2(most) / 10) : 1;
      const top = Math.max(unit * nice(most / unit), 2);
      // Half a worker is none.
      const ticks = this.format === count && top % 2 ? [0, top] : [0, top / 2, top];
      return { y: (value) => TOP + plot.h * (1 - value / top), ticks };
    }
    const low = Math.floor(Math.log10(Math.max(1, Math.min(...values, 1e4))));
    const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values, 1) * 1.0001)));
    const step = high - low > 4 ? 2 : 1;
    const ticks = [];
    for (let power = low; power <= high; power += step) ticks.push(10 ** power);
    return { y: (value) => TOP + plot.h * (1 - (Math.log10(Math.max(value, 1)) - low) / (high - low)), ticks };
  }

  /** A number on the axis: they are round. */
  label(tick) {
    if (this.format === bytes) return bytes(tick);
    if (!this.isTime) return Number.isInteger(tick) ? count(tick) : tick.toFixed(1);
    const [unit, size] = tick < 1000 ? ["µs", 1] : tick < 1e6 ? ["ms", 1000] : ["s", 1e6];
    return `${count(tick / size)} ${unit}`;
  }

  times(context, from, to, x, height, plot) {
    if (to === 0) return;
    const room = plot.w / 60;
    const every = [10, 30, 60, 120, 300].find((s) => state.range / s <= room) ?? 600;
    context.textAlign = "center";
    context.textBaseline = "bottom";
    for (let at = Math.ceil(from / (every * 1000)) * every * 1000; at <= to; at += every * 1000) {
      if (x(at) > LEFT + 12 && x(at) < LEFT + plot.w - 12) context.fillText((every < 60 ? CLOCK : MINUTE).format(at), x(at), height - 1);
    }
  }

  trace(context, { colour, way }, points, x, y, bottom, width) {
    const ink = colours.of(colour);
    context.strokeStyle = ink;
    context.fillStyle = ink;
    if (way === "bars") {
      const wide = Math.max(1.5, width / Math.max(1, width / 2));
      for (const { at, value } of points) if (value > 0) context.fillRect(x(at) - wide / 2, Math.min(y(value), bottom - 2), wide, Math.max(2, bottom - y(value)));
      return;
    }
    context.setLineDash(way === "dash" ? [5, 3] : []);
    context.lineWidth = 1.6;
    context.lineJoin = "round";
    let run = [];
    const flush = () => {
      if (run.length === 1) {
        context.beginPath();
        context.arc(x(run[0].at), y(run[0].value), 1.8, 0, 7);
        context.fill();
      } else if (run.length > 1) {
        context.beginPath();
        run.forEach(({ at, value }, n) => (n === 0 ? context.moveTo(x(at), y(value)) : context.lineTo(x(at), y(value))));
        context.stroke();
        if (way === "fill") {
          context.lineTo(x(run.at(-1).at), bottom);
          context.lineTo(x(run[0].at), bottom);
          context.globalAlpha = 0.18;
          context.fill();
          context.globalAlpha = 1;
        }
      }
      run = [];
    };
    for (const point of points) {
      if (point.value === null || point.broken) flush();
      if (point.value !== null) run.push(point);
    }
    flush();
    context.setLineDash([]);
    context.lineWidth = 1;
  }

  /** What was decided or changed, at its moment. */
  flags(context, from, to, x, plot) {
    context.textAlign = "center";
    context.textBaseline = "top";
    context.setLineDash([2, 2]);
    for (const { at_ms: at, sign, colour } of this.marks()) {
      if (at < from || at > to + 1500) continue;
      context.strokeStyle = colours.of(colour);
      context.fillStyle = context.strokeStyle;
      const place = Math.min(x(at), LEFT + plot.w);
      context.beginPath();
      context.moveTo(Math.round(place) + 0.5, TOP);
      context.lineTo(Math.round(place) + 0.5, TOP + plot.h);
      context.stroke();
      context.fillText(sign, place, 1);
    }
    context.setLineDash([]);
  }
}

/** Groups of charts that are on the page: one moment is looked at in all of them. */
const groups = new Set();

function lookAt(ms) {
  const [first, last] = [Math.max(state.at[0] ?? 0, shownFrom()), state.at.at(-1) ?? 0];
  state.cursor = ms === null || state.at.length === 0 ? null : Math.min(Math.max(ms, first), last);
  for (const group of groups) group.tell();
  redraw();
}

/** Charts side by side, moved through by pointer or by keys, and a line that says what happened at a moment. */
function group(name, charts, marks = () => []) {
  const box = make("div", {
    class: "charts", role: "slider", tabindex: "0", "aria-label": `Charts of ${name}: arrow keys move through time`,
    "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0", "aria-valuetext": "now",
  }, ...charts.map(({ node }) => node));
  const moment = make("p", { class: "moment" });
  for (const chart of charts) {
    chart.marks = marks;
    const follow = (event) => {
      const { left, width } = chart.canvas.getBoundingClientRect();
      const part = (event.clientX - left - LEFT) / Math.max(1, width - LEFT - RIGHT);
      lookAt(shownFrom() + part * state.range * 1000);
    };
    chart.canvas.addEventListener("pointermove", follow);
    chart.canvas.addEventListener("pointerdown", follow);
  }
  box.addEventListener("pointerleave", () => { if (document.activeElement !== box) lookAt(null); });
  box.addEventListener("blur", () => lookAt(null));
  box.addEventListener("keydown", (event) => {
    const here = Math.max(0, shownSample());
    const step = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: here - step, ArrowDown: here - step, ArrowRight: here + step, ArrowUp: here + step, Home: 0, End: nowSample() }[event.key];
    if (event.key === "Escape") lookAt(null);
    else if (to !== undefined) lookAt(state.at[Math.min(Math.max(to, 0), Math.max(0, nowSample()))] ?? null);
    else return;
    event.preventDefault();
  });
  const self = {
    node: make("div", {}, box, moment),
    tell() {
      const n = shownSample();
      const told = charts.map((chart) => `${chart.title}: ${chart.tell(n).join(", ")}`);
      const at = state.at[n];
      mark(box, "aria-valuemax", Math.max(0, nowSample()));
      mark(box, "aria-valuenow", Math.max(0, n));
      if (state.cursor === null) {
        mark(box, "aria-valuetext", "now");
        const last = marks().at(-1);
        write(moment, last ? `Last mark: ${clock(last.at_ms)} ${last.sign} ${last.text}` : "");
        return;
      }
      const near = marks().filter((one) => Math.abs(one.at_ms - at) <= Math.max(1000, state.range * 4));
      const happened = near.slice(-3).map((one) => `${clock(one.at_ms)} ${one.sign} ${one.text}`);
      write(moment, [`At ${clock(at)}`, ...happened].join("  ·  "));
      mark(box, "aria-valuetext", [clock(at), ...told, ...happened].join("; "));
    },
    gone() {
      groups.delete(self);
      for (const chart of charts) chart.gone();
    },
  };
  groups.add(self);
  return self;
}

