// Everything beside the providers: alerts, all requests together, and the machine below.

const house = new Values();

const alerts = new Rows($("alert-list"), () => {
  const [kind, subject, when, said] = [make("strong"), make("span"), make("span", { class: "when" }), make("span", { class: "said" })];
  return { node: make("li", {}, kind, subject, when, said), fill: (alert) => {
    write(kind, word(alert.kind));
    write(subject, alert.subject);
    write(when, `for ${span(serverNow() - alert.since_ms)}`);
    write(said, alert.message);
  } };
});
let voiced = "";

function fillAlerts() {
  const all = state.stats.alerts;
  alerts.fill(all.map((alert) => [`${alert.kind}\n${alert.subject}`, alert]));
  mark($("alert-count"), "data-value", all.length);
  write($("alert-count"), all.length ? String(all.length) : "none");
  $("no-alerts").hidden = all.length > 0;
  // It is said aloud when something came or went, not when its words change.
  const what = all.map(({ kind, subject }) => `${word(kind)}, ${subject}`);
  if (what.join() === voiced) return;
  voiced = what.join();
  const first = what.slice(0, 5).join("; ");
  write($("alert-voice"), what.length ? `${what.length} alerts: ${first}${what.length > 5 ? " and more" : ""}` : "No alerts");
}

$("request-tiles").append(...facts([
  ["In flight", house.show("requests.in_flight"), make("span", {}, "of ", house.show("requests.max_in_flight"))],
  ["Requests a second", house.show("requests.throughput_per_s", rate), "over the last minute"],
  ["Whole request, p99", house.show("requests.total_us.p99", micros), make("span", {}, "p50 ", house.show("requests.total_us.p50", micros), " to date")],
  ["Gateway's share, p99", house.show("requests.overhead_us.p99", micros), make("span", {}, "p50 ", house.show("requests.overhead_us.p50", micros), " to date")],
  ["Succeeded", house.show("requests.succeeded_total"), make("span", {}, "of ", house.show("requests.received_total"), " received")],
  ["Failed", house.show("requests.failed_total"), make("span", {}, house.show("requests.cancelled_total"), " cancelled")],
  ["Memory", house.show("process.rss_bytes", bytes), make("span", {}, house.show("requests.buffered_bytes", bytes), " of it bodies")],
]).children);

const overall = (title, unit, format, series, isTime) => {
  const chart = new Chart(title, unit, format, series, isTime);
  chart.columns = () => state.overall;
  return chart;
};
const requestCharts = group("all requests", [
  overall("Ended", "requests/s", rate, [
    { label: "succeeded", colour: "blue", way: "fill", of: perSecond("succeeded") },
    { label: "failed", colour: "bad", way: "bars", of: perSecond("failed") },
    { label: "cancelled", colour: "violet", way: "dash", of: perSecond("cancelled") },
  ]),
  overall("In flight", "", count, [{ label: "requests", colour: "blue", way: "fill", of: plain("in_flight") }]),
  overall("Whole request", "log scale", micros, [
    { label: "p50", colour: "blue", way: "line", of: plain("total_p50_us") },
    { label: "p99", colour: "violet", way: "dash", of: plain("total_p99_us") },
  ], true),
  overall("Memory", "", bytes, [{ label: "resident", colour: "teal", way: "fill", of: plain("rss_bytes") }]),
]);
$("request-charts").append(requestCharts.node);

/** The counts of errors at each poll of the last minute. */
const errorsSeen = [];
const errorRows = new Rows($("error-rows"), (code) => {
  const [lately, all] = [make("td", { class: "num" }), make("td", { class: "num", "data-stat": `errors.${code}` })];
  return { node: make("tr", { "data-code": code }, make("th", { scope: "row", class: "mono" }, code), lately, all), fill: ([total, before]) => {
    write(lately, before === null ? UNKNOWN : count(total - before));
    mark(all, "data-value", total);
    write(all, count(total));
  } };
});

function fillErrors() {
  const now = serverNow();
  errorsSeen.push({ at: now, errors: state.stats.errors });
  while (errorsSeen.length > 1 && errorsSeen[1].at <= now - 60_000) errorsSeen.shift();
  // After a silence the one before it is of no minute.
  if (now - errorsSeen[0].at > 90_000) errorsSeen.shift();
  const oldest = now - errorsSeen[0].at >= 55_000 ? errorsSeen[0].errors : null;
  const rows = Object.entries(state.stats.errors).sort((a, b) => b[1] - a[1]);
  errorRows.fill(rows.map(([code, total]) => [code, [total, oldest === null ? null : (oldest[code] ?? 0)]]));
  $("no-errors").hidden = rows.length > 0;
  mark($("error-rows").parentElement, "hidden", rows.length ? null : "");
}

function panel(title, ...nodes) {
  $("panels").append(make("div", {}, make("h3", {}, title), ...nodes));
}

/** A table of terms and what `/stats` has at their paths. */
function list(pairs) {
  const [node, body] = table("", "");
  node.tHead.remove();
  const shown = (told) => (Array.isArray(told) ? house.show(...told) : told);
  body.append(...pairs.map(([term, ...told]) => make("tr", {}, make("th", { scope: "row" }, term),
    make("td", { class: "num" }, ...told.flatMap((one, n) => (n ? [", ", shown(one)] : [shown(one)]))))));
  return node;
}

const [poolTable, poolBody] = table("Pool", "Hits", "Idle", "In use", "Held");
const pools = new Rows(poolBody, (name) => {
  const values = new Values();
  const bar = make("span", { class: "ratio", "aria-hidden": "true" }, make("span"));
  const low = make("span", { class: "badge", "data-tone": "bad", hidden: true }, "low");
  const title = make("th", { scope: "row" }, word(name), " ", low);
  const hits = make("td", { class: "num" }, bar, values.show("hit_ratio", share));
  const inUse = make("td", { class: "num" });
  const node = make("tr", { "data-pool": name }, title, hits, make("td", { class: "num" }, values.show("idle")), inUse, make("td", { class: "num" }, values.show("bytes_held", bytes)));
  return { node, fill: (pool) => {
    values.fill(pool);
    bar.firstChild.style.width = `${(pool.hit_ratio ?? 0) * 100}%`;
    low.hidden = !pool.alert;
    write(inUse, count(known(pool.live) && known(pool.idle) ? pool.live - pool.idle : null));
  } };
});
panel("Pools", poolTable);

const [roleTable, roleBody] = table("Role", "Running", "Waits", "Lock", "I/O", "Active");
const roles = new Rows(roleBody, (role) => {
  const at = Array.from({ length: 5 }, () => make("td", { class: "num" }));
  mark(at[4], "data-stat", `threads.by_role.${role}.active`);
  return { node: make("tr", { "data-role": role }, make("th", { scope: "row" }, word(role)), ...at), fill: ([active, states]) => {
    ["running", "waiting_channel", "waiting_lock", "io"].forEach((what, n) => write(at[n], states ? count(states.get(what) ?? 0) : UNKNOWN));
    mark(at[4], "data-value", JSON.stringify(active));
    write(at[4], count(active));
  } };
});
/** Of each role how many threads are in which state, as `/threads` last told. */
let threadStates = null;
panel("Threads", list([
  ["active, of at most", ["threads.active"], ["threads.limit"]],
  ["peak", ["threads.peak"]],
  ["stuck", ["threads.stuck"]],
  ["panics, refused", ["threads.panics_total"], ["threads.refused_total"]],
]), roleTable);

function countStates(threads) {
  threadStates = new Map();
  for (const { role, state: what } of threads) {
    if (!threadStates.has(role)) threadStates.set(role, new Map());
    const states = threadStates.get(role);
    states.set(what, (states.get(what) ?? 0) + 1);
  }
}

const [patternTable, patternBody] = table("Contended orders", "Times");
const patterns = new Rows(patternBody, (edge) => cells(edge, [["count", count]]));
panel("Locks", list([
  ["registered", ["locks.registered"]],
  ["contended, timed out", ["locks.contended_total"], ["locks.timed_out_total"]],
  ["waiting now", ["locks.waiting"]],
  ["held longest", ["locks.held_longest_us", micros]],
  ["wrong orders", ["locks.order_violations_total"]],
  ["deadlocks found, ended", ["locks.deadlocks_detected_total"], ["locks.deadlocks_resolved_total"]],
  ["threads held up: channel, lock, I/O", ["blocked.channel"], ["blocked.lock"], ["blocked.io"]],
  ["… the longest for", ["blocked.oldest_ms", span]],
]), patternTable);
panel("Connections of clients", list([
  ["open, idle", ["connections.open"], ["connections.idle"]],
  ["accepted", ["connections.accepted_total"]],
  ["refused", ["connections.refused_total"]],
  ["bad requests", ["connections.bad_requests_total"]],
  ["heads too late", ["connections.header_timeouts_total"]],
]));
const cpu = make("span", {}, UNKNOWN);
panel("Process", list([
  ["memory", ["process.rss_bytes", bytes]],
  ["processors used", cpu],
  ["open files", ["process.open_fds"]],
  ["threads of any kind", ["process.threads"]],
]));
const [pluginTable, pluginBody] = table("Plugin", "Calls", "Errors", "Panics", "p99 before");
const plugins = new Rows(pluginBody, (name) => {
  const row = cells(name, [["calls_total", count], ["errors_total", count], ["panics_total", count], ["pre_us.p99", micros]]);
  row.node.dataset.plugin = name;
  return row;
});
const pluginless = make("p", { class: "quiet" }, "None is configured.");
panel("Plugins", pluginTable, pluginless);

let cpuBefore = null;
function fillCpu({ cpu_us: used }, at) {
  if (known(used) && cpuBefore && at > cpuBefore.at && used >= cpuBefore.used) {
    write(cpu, ((used - cpuBefore.used) / 1000 / (at - cpuBefore.at)).toFixed(2));
  }
  if (!cpuBefore || at > cpuBefore.at) cpuBefore = known(used) ? { used, at } : null;
}

const SHOWN_EVENTS = 100;
const eventRows = new Rows($("event-list"), (key, event) => ({
  node: make("li", {}, make("time", { datetime: new Date(event.at_ms).toISOString() }, clock(event.at_ms)), make("span", { class: "kind" }, word(event.kind)), make("span", {}, event.subject), make("span", {}, event.message)),
  fill() {},
}));

/** The events since `since` take the place of those that were known from then on. */
function rememberEvents(came, since) {
  const before = state.events.filter(({ at_ms: at }) => at <= since);
  state.events = [...before, ...came].slice(-512);
  const seen = new Map();
  const keyed = state.events.map((event) => {
    const key = `${event.at_ms}\n${event.kind}\n${event.subject}\n${event.message}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
    return [`${key}\n${seen.get(key)}`, event];
  });
  eventRows.fill(keyed.slice(-SHOWN_EVENTS).reverse());
}

function fillHouse() {
  const { stats } = state;
  house.fill(stats);
  badge($("phase"), stats.phase);
  mark($("phase"), "data-value", JSON.stringify(stats.phase));
  write($("about"), `${stats.version} · up ${span(stats.uptime_s * 1000)}`);
  $("drain").disabled = stats.phase !== "running";
  fillAlerts();
  fillErrors();
  requestCharts.tell();
  pools.fill(Object.entries(stats.pools));
  roles.fill(Object.entries(stats.threads.by_role).map(([role, { active }]) => [role, [active, threadStates && (threadStates.get(role) ?? new Map())]]));
  patterns.fill(stats.locks.patterns.map((pattern) => [pattern.edge, pattern]));
  mark(patternTable, "hidden", stats.locks.patterns.length ? null : "");
  const named = Object.entries(stats.plugins);
  plugins.fill(named);
  mark(pluginTable, "hidden", named.length ? null : "");
  pluginless.hidden = named.length > 0;
  fillCpu(stats.process, state.at.at(-1) ?? 0);
}

