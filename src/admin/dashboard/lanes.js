// Providers, a lane each: what can be seen of one at a glance stands in its head, the rest below it.

const TONES = {
  ready: "good", healthy: "good", closed: null, init: "warn", spawning: "warn", checking: "warn", unknown: null,
  half_open: "warn", draining: "warn", open: "bad", unhealthy: "bad", stopped: "bad", paused: "warn",
  running: "good", starting: "warn", cooling: "warn", dead: "bad", full: "bad",
};
/** From this part on a queue is nearly full. */
const NEARLY = 0.9;
/** With more providers than this only those in trouble are unfolded at first. */
const UNFOLDED = 6;

function badge(node, what, text = word(what)) {
  write(node, text);
  mark(node, "data-tone", TONES[what] ?? null);
}

/** The marks of a provider's charts: what its scaler decided and how its breaker turned. */
function marksOf(name) {
  const marks = [];
  for (const { at_ms: at, kind, subject, message } of state.events) {
    if (kind === "scaling" && subject === name) {
      const [, from, to] = message.match(/^(\d+) -> (\d+)/) ?? [];
      const sign = from === undefined ? "•" : Number(to) > Number(from) ? "▲" : "▼";
      marks.push({ at_ms: at, sign, colour: "teal", text: message });
    } else if (kind === "breaker" && (subject === name || subject.startsWith(`${name}/`))) {
      const bad = message.startsWith("open");
      marks.push({ at_ms: at, sign: bad ? "◆" : "◇", colour: bad ? "bad" : "soft", text: `breaker${subject === name ? "" : ` of ${subject.slice(name.length + 1)}`} ${message}` });
    }
  }
  return marks;
}

/** A list of the last things that were said, newest first. */
class Told {
  constructor() {
    this.node = make("ul", { class: "line" });
    this.last = "";
  }

  fill(lines) {
    const text = lines.join("\n");
    if (text === this.last) return;
    this.last = text;
    this.node.replaceChildren(...lines.map((line) => make("li", {}, line)));
  }
}

class Lane {
  constructor(name) {
    this.name = name;
    this.values = new Values();
    const show = (path, format, tag) => this.values.show(path, format, tag);
    const id = `lane-${Lane.made += 1}`;
    this.fold = make("button", { type: "button", "aria-expanded": "false", "aria-controls": id }, name);
    this.fold.addEventListener("click", () => this.open(this.body.hidden));
    this.kind = make("span", { class: "kind" });
    this.badges = Object.fromEntries(["phase", "paused", "queue", "breaker", "health"].map((what) => [what, make("span", { class: "badge" })]));
    mark(this.badges.phase, "data-stat", "phase");
    mark(this.badges.breaker, "data-stat", "breaker.state");
    mark(this.badges.health, "data-stat", "health.state");
    this.latest = ["wait_p99_us", "service_p99_us"].map((column) => make("span", { "data-latest": column, "data-value": "null" }, UNKNOWN));
    const head = facts([
      ["Jobs/s", show("queue.throughput_per_s", rate)],
      ["Failed", show("jobs.error_rate", share)],
      ["Waiting", show("queue.depth")],
      ["Busy", make("span", {}, show("workers.busy"), " of ", show("workers.active"))],
      ["Wait p99", this.latest[0]],
      ["Service p99", this.latest[1]],
    ], { class: "facts" });
    this.body = make("div", { class: "body", id, hidden: true });
    this.node = make("article", { class: "lane card", "data-provider": name, "aria-label": `Provider ${name}` },
      make("header", {}, make("h3", {}, this.fold), this.kind, ...Object.values(this.badges), head), this.body);
    this.built = false;
  }

  /** What is below the head is made when it is first looked at: fifty providers are a list before they are fifty pages. */
  build() {
    this.built = true;
    const show = (path, format, tag) => this.values.show(path, format, tag);
    this.gauge = make("div", { class: "gauge", role: "img" }, make("span"), make("i"));
    this.crew = new Crew();
    const queue = make("div", {}, make("h4", {}, "Queue"), this.gauge,
      make("p", { class: "line" }, show("queue.depth"), " of ", show("queue.capacity"), " places taken · most so far ", show("queue.high_water"), " · policy ", show("queue.policy", word)));
    const crew = make("div", {}, make("h4", {}, "Workers ", make("span", { class: "count" }, show("workers.configured"), " wanted, ", show("workers.min"), " to ", show("workers.max"))), this.crew.canvas, this.crew.said);
    const chart = (title, unit, format, series, isTime) => {
      const made = new Chart(title, unit, format, series, isTime);
      made.columns = () => state.lanes.get(this.name) ?? null;
      return made;
    };
    const pair = (column) => [
      { label: "p50", colour: "blue", way: "line", of: plain(`${column}_p50_us`) },
      { label: "p99", colour: "violet", way: "dash", of: plain(`${column}_p99_us`) },
    ];
    this.charts = group(this.name, [
      chart("Throughput", "jobs/s", rate, [
        { label: "taken", colour: "blue", way: "fill", of: perSecond("completed") },
        { label: "failed", colour: "bad", way: "bars", of: perSecond("failed") },
        { label: "refused", colour: "violet", way: "dash", of: perSecond("refused") },
      ]),
      chart("Workers", "", count, [
        { label: "busy", colour: "blue", way: "fill", of: plain("busy") },
        { label: "there", colour: "teal", way: "line", of: plain("active") },
        { label: "wanted", colour: "violet", way: "dash", of: plain("configured") },
      ]),
      chart("Queue", "waiting", count, [{ label: "depth", colour: "blue", way: "fill", of: plain("depth") }]),
      chart("Wait", "log scale", micros, pair("wait"), true),
      chart("Service", "log scale", micros, pair("service"), true),
    ], () => this.marks);
    this.marks = [];

    const list = (title, pairs) => {
      const [node, body] = table("", "");
      body.append(...pairs.map(([term, ...cells]) => make("tr", {}, make("th", { scope: "row" }, term), make("td", { class: "num" }, ...cells))));
      node.tHead.remove();
      return make("div", {}, make("h4", {}, title), node);
    };
    const attempts = list("Attempts, since the start", [
      ["submitted", show("queue.submitted_total")],
      ["succeeded", show("jobs.succeeded_total")],
      ["failed", show("jobs.failed_total")],
      ["timed out at the provider", show("jobs.timed_out_total")],
      ["cancelled", show("jobs.cancelled_total")],
      ["refused, dropped", make("span", {}, show("queue.rejected_total"), ", ", show("queue.dropped_total"))],
      ["waited too long", show("queue.timed_out_total")],
      ["given up while waiting", show("queue.abandoned_total")],
      ["retries, fallbacks", make("span", {}, show("jobs.retries_total"), ", ", show("jobs.fallbacks_total"))],
      ["panics of workers", show("workers.panics_total")],
    ]);
    const times = list("Times, since the start", [
      ["wait p50, p99", make("span", {}, show("queue.wait_us.p50", micros), ", ", show("queue.wait_us.p99", micros))],
      ["service p50, p99", make("span", {}, show("jobs.service_us.p50", micros), ", ", show("jobs.service_us.p99", micros))],
      ["first token p50, p99", make("span", {}, show("jobs.first_token_us.p50", micros), ", ", show("jobs.first_token_us.p99", micros))],
      ["tokens in, out", make("span", {}, show("jobs.tokens_in_total"), ", ", show("jobs.tokens_out_total"))],
      ["wait and service go together", show("jobs.correlation.r", ifKnown((r) => `r = ${r.toFixed(2)}`))],
      ["connections open, idle", make("span", {}, show("connections.open"), ", ", show("connections.idle"))],
      ["… used again", show("connections.reused_total")],
      ["last health check", show("health.last_check_ms_ago", ifKnown((ms) => `${span(ms)} ago`))],
    ]);
    const breaker = list("Circuit breaker", [
      ["state", show("breaker.state", word)],
      ["kept by", show("breaker.mode", ifKnown((mode) => (mode === "auto" ? "what is counted" : "an operator's word")))],
      ["half-opens in", show("breaker.half_opens_in_ms", span)],
      ["opened, half-opened, closed", make("span", {}, show("breaker.opened_total"), ", ", show("breaker.half_opened_total"), ", ", show("breaker.closed_total"))],
      ["refused while open", show("breaker.short_circuited_total")],
    ]);
    this.turns = new Told();
    breaker.append(this.turns.node);
    const scaling = list("Scaling", [
      ["follows the load", show("scaling.enabled", ifKnown((on) => (on ? "yes" : "no")))],
      ["up, down", make("span", {}, show("scaling.up_total"), ", ", show("scaling.down_total"))],
      ["workers added, removed", make("span", {}, show("scaling.workers_added_total"), ", ", show("scaling.workers_removed_total"))],
      ["best by the formula", show("optimization.optimal_workers")],
    ]);
    this.decisions = new Told();
    scaling.append(this.decisions.node);
    const [keys, keyBody] = table("Key", "State", "Used", "Failed");
    this.keys = new Rows(keyBody, (key) => {
      const values = new Values();
      const what = make("span", { class: "badge" });
      const row = make("tr", { "data-key": key }, make("th", { scope: "row" }, key), make("td", { class: "num" }, what), ...["used_total", "failed_total"].map((path) => make("td", { class: "num" }, values.show(path))));
      return { node: row, fill: (item) => {
        values.fill(item);
        const rest = Object.entries(item.models).map(([model, ms]) => `${model} for ${span(ms)}`);
        badge(what, item.state, rest.length ? `${item.state}: ${rest.slice(0, 2).join(", ")}` : item.state);
        mark(what, "data-stat", "state");
        mark(what, "data-value", JSON.stringify(item.state));
      } };
    });
    const [longest, longestBody] = table("Request", "Worker", "For");
    this.longest = new Rows(longestBody, () => {
      const at = ["th", "td", "td"].map((tag, n) => make(tag, n ? { class: "num" } : { scope: "row", class: "mono" }));
      return { node: make("tr", {}, ...at), fill: (worker) => [worker.request_id, worker.id, span(worker.current_ms)].forEach((text, n) => write(at[n], String(text ?? UNKNOWN))) };
    });
    this.keyless = make("p", { class: "quiet" }, "None: it asks for no key.");
    this.idle = make("p", { class: "quiet" }, "No worker is at a job.");
    const block = (title, ...nodes) => make("div", {}, make("h4", {}, title), ...nodes);
    this.pause = make("button", { type: "button", "data-order": "pause" }, "Pause…");
    const order = (what, label) => make("button", { type: "button", "data-order": `breaker/${what}` }, label);
    const orders = make("div", { class: "orders", role: "group", "aria-label": `Orders to ${this.name}` }, this.pause,
      make("span", { "aria-hidden": "true" }, "Breaker"), order("open", "Open…"), order("close", "Close…"), order("auto", "Automatic…"));
    for (const button of orders.querySelectorAll("button")) {
      if (button !== this.pause) mark(button, "aria-label", `Breaker of ${this.name}: ${button.textContent}`);
      button.addEventListener("click", () => give(button.dataset.order, this.name, button));
    }
    this.body.append(make("div", { class: "places" }, queue, crew), this.charts.node,
      make("div", { class: "cols" }, attempts, times, make("div", { class: "stack" }, breaker, scaling), make("div", { class: "stack" }, block("Longest at work", longest, this.idle), block("Keys", keys, this.keyless))), orders);
  }

  open(open) {
    if (open && !this.built) this.build();
    this.body.hidden = !open;
    mark(this.fold, "aria-expanded", String(open));
    if (open && this.stats) this.fill(this.stats);
    redraw();
  }

  fill(stats) {
    this.stats = stats;
    this.values.fill(stats);
    const paused = state.stats.alerts.some(({ kind, subject }) => kind === "provider_paused" && subject === this.name);
    const { phase, breaker, health } = stats;
    for (const [name, value] of [["phase", phase], ["breaker", breaker.state], ["health", health.state]]) mark(this.badges[name], "data-value", JSON.stringify(value));
    badge(this.badges.phase, phase);
    badge(this.badges.paused, "paused");
    this.badges.paused.hidden = !paused;
    this.part = Math.min(1, stats.queue.depth / Math.max(1, stats.queue.capacity));
    badge(this.badges.queue, this.part < NEARLY ? "unknown" : "full", this.part < 1 ? "queue nearly full" : "queue full");
    this.badges.queue.hidden = this.part < NEARLY;
    const hand = breaker.mode === "auto" ? "" : " by hand";
    const models = Object.values(breaker.models).filter((model) => model.state !== "closed").length;
    const ofModels = models > 0 && breaker.state === "closed";
    badge(this.badges.breaker, ofModels ? "half_open" : breaker.state, ofModels ? `breakers of ${models} ${models > 1 ? "models" : "model"} not closed` : `breaker ${word(breaker.state)}${hand}`);
    badge(this.badges.health, health.state, health.state === "unknown" ? "health unknown" : health.state);
    write(this.kind, state.kinds.get(this.name) ?? "");
    const tones = Object.values(this.badges).filter((node) => !node.hidden).map((node) => node.dataset.tone);
    this.tone = tones.includes("bad") ? "bad" : tones.includes("warn") ? "warn" : null;
    mark(this.node, "data-tone", this.tone);
    const columns = state.lanes.get(this.name);
    ["wait_p99_us", "service_p99_us"].forEach((column, n) => {
      const value = columns?.[column]?.at(-1) ?? null;
      mark(this.latest[n], "data-value", JSON.stringify(value));
      write(this.latest[n], micros(value));
    });
    if (this.body.hidden) return;
    this.fillBody(stats, paused);
  }

  fillBody(stats, paused) {
    const { queue, keys } = stats;
    const [bar, peak] = this.gauge.children;
    bar.style.width = `${this.part * 100}%`;
    peak.style.left = `calc(${Math.min(1, queue.high_water / Math.max(1, queue.capacity)) * 100}% - 2px)`;
    mark(this.gauge, "data-tone", this.part >= NEARLY ? "bad" : this.part >= NEARLY / 2 ? "warn" : null);
    mark(this.gauge, "aria-label", `Queue: ${queue.depth} of ${queue.capacity} places taken, at most ${queue.high_water} so far`);
    this.crew.fill(stats);
    this.keys.fill(keys.map((key) => [key.name, key]));
    this.keyless.hidden = keys.length > 0;
    mark(this.keys.parent.parentElement, "hidden", keys.length ? null : "");
    const busy = stats.per_worker.filter((worker) => BUSY.has(worker.state)).sort((a, b) => b.current_ms - a.current_ms).slice(0, 5);
    this.longest.fill(busy.map((worker, n) => [n, worker]));
    this.idle.hidden = busy.length > 0;
    mark(this.longest.parent.parentElement, "hidden", busy.length ? null : "");
    this.marks = marksOf(this.name);
    const said = (colour) => this.marks.filter((one) => (one.colour === "teal") === colour).slice(-5).reverse().map((one) => `${clock(one.at_ms)} ${one.sign} ${one.text}`);
    this.turns.fill(said(false));
    this.decisions.fill(said(true));
    write(this.pause, paused ? "Resume…" : "Pause…");
    mark(this.pause, "data-order", paused ? "resume" : "pause");
    this.charts.tell();
  }

  gone() {
    this.charts?.gone();
    this.crew?.gone();
  }
}
Lane.made = 0;

const lanes = new Rows($("lanes"), (name, stats) => {
  const lane = new Lane(name);
  lane.first = true;
  return { lane, node: lane.node, gone: () => lane.gone(), fill: (now) => {
    lane.fill(now);
    if (!lane.first) return;
    lane.first = false;
    if (Object.keys(state.stats.providers).length <= UNFOLDED || lane.tone !== null) lane.open(true);
  } };
});

const allLanes = () => [...lanes.rows.values()].map(({ lane }) => lane);
$("fold-all").addEventListener("click", () => {
  const open = allLanes().every((lane) => lane.body.hidden);
  for (const lane of allLanes()) lane.open(open);
  if (state.stats) fillLanes();
});

function fillLanes() {
  const providers = Object.entries(state.stats.providers);
  lanes.fill(providers);
  const trouble = allLanes().filter((lane) => lane.tone !== null).length;
  write($("provider-count"), `${providers.length}${trouble ? `, ${trouble} in trouble` : ""}`);
  write($("fold-all"), allLanes().length && allLanes().every((lane) => lane.body.hidden) ? "Unfold all" : "Fold all");
}

