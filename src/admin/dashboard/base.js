// What all others use: the page's elements, numbers as people read them, and the one place where a value meets its element.
// Whatever comes from the gateway is written as text: names and messages are anybody's.

const $ = (id) => document.getElementById(id);

/** Makes an element of these attributes and children; a child that is no element is text. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Writes what is new: an element that stays as it is keeps its place, its focus and what is selected in it. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const UNKNOWN = "–";
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
/** A function of numbers that leaves what is not known as it is. */
const ifKnown = (format) => (value) => (known(value) ? format(value) : UNKNOWN);

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const LARGE = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const short = (value, unit) => `${value < 9.995 ? value.toFixed(value < 0.995 ? 2 : 1) : WHOLE.format(value)} ${unit}`;

const count = ifKnown((value) => (Math.abs(value) < 1e6 ? WHOLE.format(value) : LARGE.format(value)));
const rate = ifKnown((value) => (value === 0 ? "0" : value < 9.95 ? value.toFixed(1) : count(value)));
const share = ifKnown((value) => `${value > 0 && value < 0.0995 ? (value * 100).toFixed(1) : Math.round(value * 100)} %`);
const micros = ifKnown((value) => {
  if (value < 1000) return `${Math.round(value)} µs`;
  if (value < 999_500) return short(value / 1000, "ms");
  return value < 120e6 ? short(value / 1e6, "s") : span(value / 1000);
});
const nanos = ifKnown((value) => (value < 1000 ? `${Math.round(value)} ns` : micros(value / 1000)));
const bytes = ifKnown((value) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1023.5 && at < units.length - 1; at += 1) value /= 1024;
  return `${at === 0 || value >= 9.95 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
});
/** A stretch of milliseconds in its two largest units. */
const span = ifKnown((ms) => {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
});
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const clock = (ms) => CLOCK.format(ms);
const word = ifKnown((value) => String(value).replaceAll("_", " "));

/** What stands at a path of keys; a percentile of nothing is not known. */
function look(from, keys) {
  let value = from;
  for (const key of keys) {
    if (value === null || value === undefined) return null;
    if (value.count === 0 && "p50" in value && key !== "count") return null;
    value = value[key];
  }
  return value === undefined ? null : value;
}

/** Elements that show a value of `/stats` each: by path, with the value as it came in `data-value`. */
class Values {
  constructor() {
    this.all = [];
  }

  /** An element that shows what is at `path`. */
  show(path, format = count, tag = "span") {
    const node = make(tag, { "data-stat": path, "data-value": "null" }, UNKNOWN);
    this.all.push({ node, keys: path.split("."), format, last: undefined });
    return node;
  }

  fill(from) {
    for (const one of this.all) {
      const value = look(from, one.keys);
      if (value === one.last) continue;
      one.last = value;
      mark(one.node, "data-value", JSON.stringify(value));
      write(one.node, one.format(value));
    }
  }
}

/** Rows of a table or list that come and go by their keys, in the order given; each row is made once and filled often. */
class Rows {
  constructor(parent, build) {
    this.parent = parent;
    this.build = build;
    this.rows = new Map();
  }

  /** `items` are pairs of a key and what fills its row. */
  fill(items) {
    const wanted = new Set();
    let place = this.parent.firstElementChild;
    for (const [key, item] of items) {
      wanted.add(key);
      let row = this.rows.get(key);
      if (!row) {
        row = this.build(key, item);
        this.rows.set(key, row);
      }
      if (row.node === place) place = place.nextElementSibling;
      else this.parent.insertBefore(row.node, place);
      row.fill(item);
    }
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue;
      row.gone?.();
      row.node.remove();
      this.rows.delete(key);
    }
  }
}

/** A row of a table: a name, then a cell for each path. */
function cells(name, columns) {
  const values = new Values();
  const cell = ([path, format]) => make("td", { class: "num" }, values.show(path, format));
  const node = make("tr", {}, make("th", { scope: "row" }, name), ...columns.map(cell));
  return { node, fill: (item) => values.fill(item) };
}

/** A table with this head, whose first column are names. */
function table(first, ...heads) {
  const body = make("tbody");
  const head = make("tr", {}, make("th", { scope: "col" }, first), ...heads.map((text) => make("th", { scope: "col", class: "num" }, text)));
  return [make("table", {}, make("thead", {}, head), body), body];
}

/** Lists the pairs of a term and an element, or several, that tells of it. */
function facts(pairs, attributes = {}) {
  return make("dl", attributes, ...pairs.map(([term, ...told]) => make("div", {}, make("dt", {}, term), ...told.map((one) => make("dd", {}, one)))));
}

/** What can be remembered from one visit to the next, if the browser lets it. */
const memory = {
  get(kind, name) {
    try { return window[kind].getItem(`sluicegate.${name}`); } catch { return null; }
  },
  set(kind, name, value) {
    try {
      if (value === null) window[kind].removeItem(`sluicegate.${name}`);
      else window[kind].setItem(`sluicegate.${name}`, value);
    } catch { /* Then it is asked for again. */ }
  },
};

/** Colours as the theme in force has them, for those who draw. */
const colours = {
  kept: new Map(),
  of(name) {
    if (!this.kept.has(name)) {
      const probe = make("span");
      probe.style.color = `var(--${name})`;
      document.body.append(probe);
      this.kept.set(name, getComputedStyle(probe).color);
      probe.remove();
    }
    return this.kept.get(name);
  },
};

/** Everything that the page knows, and where it looks. */
const state = {
  stats: null,
  kinds: new Map(),
  events: [],
  /** Columns of the last quarter of an hour: of all, and by provider. */
  at: [],
  overall: {},
  lanes: new Map(),
  /** The seconds that charts show, and the moment that is looked at closely: `null` is the present. */
  range: 300,
  cursor: null,
};

