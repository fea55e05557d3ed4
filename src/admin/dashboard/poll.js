// Keeps the page live: a look each second, never two at a time; further apart while nobody answers, none while nobody looks.
// How old numbers are is told by the gateway's own clock, and how long it has been silent by the browser's, which never jumps.

const EVERY = 1000;
const SLOWEST = 15_000;
/** How long an answer is waited for. */
const PATIENCE = 10_000;
/** After this long without an answer the page says so; past twice as much of the gateway's own time, numbers are old. */
const LATE = 2500;
const OLD = 5000;
const THREADS_EVERY = 5;

const link = { key: memory.get("sessionStorage", "key"), failures: 0, rounds: 0, timer: null, running: null, answered: null, age: 0, next: null, trouble: "", cause: "" };
/** The gateway's clock: what it said last, and when that was by ours. */
const served = { ms: 0, at: 0 };
const serverNow = () => served.ms + (performance.now() - served.at);

class Refused extends Error {
  constructor(status, message, problems) {
    super(message);
    Object.assign(this, { status, problems });
  }
}

/** Asks the gateway, with the key if there is one; an answer that is no success is an error in the gateway's words. */
async function ask(path, { method = "GET", headers = {}, wait = PATIENCE } = {}) {
  // A header takes bytes, of which a character of the key may be several.
  const key = String.fromCharCode(...new TextEncoder().encode(link.key ?? ""));
  const authorization = key ? { authorization: `Bearer ${key}` } : {};
  let answer, text;
  try {
    answer = await fetch(path, { method, headers: { ...headers, ...authorization }, cache: "no-store", redirect: "error", signal: AbortSignal.timeout(wait) });
    text = await answer.text();
  } catch (error) {
    throw new Refused(0, error.name === "TimeoutError" ? `no answer within ${wait / 1000} s` : "the connection failed");
  }
  let body = null;
  try { body = JSON.parse(text); } catch { /* It is told below. */ }
  if (!answer.ok || body === null) {
    const after = answer.headers.get("retry-after");
    const message = body?.error?.message ?? `the answer is no JSON: ${text.slice(0, 200)}`;
    throw new Refused(answer.status, `${answer.status}: ${message}${after ? ` (come again in ${after} s)` : ""}`, body?.error?.problems);
  }
  return body;
}

function forgetAll() {
  Object.assign(state, { stats: null, at: [], overall: {}, events: [], cursor: null });
  state.lanes.clear();
  errorsSeen.length = 0;
  cpuBefore = null;
}

async function visit() {
  const since = state.at.at(-1) ?? 0;
  // One more millisecond: what came in the same one as the last that is known has to be seen, too.
  const eventsSince = Math.max(0, (state.events.at(-1)?.at_ms ?? 0) - 1);
  const withThreads = link.rounds % THREADS_EVERY === 0;
  const [stats, history, events, threads] = await Promise.all([
    ask("/stats"), ask(`/history?since=${since}`), ask(`/events?since=${eventsSince}`), withThreads ? ask("/threads") : null,
  ]);
  const restarted = state.stats !== null
    && (stats.uptime_s < state.stats.uptime_s || stats.process.started_at_ms !== state.stats.process.started_at_ms);
  if (restarted || history.now_ms < since) {
    // Another process, or a clock that was set back: what was known is of another time.
    forgetAll();
    return visit();
  }
  if (withThreads) countStates(threads.threads);
  Object.assign(served, { ms: history.now_ms, at: performance.now() });
  const names = Object.keys(stats.providers);
  const isNew = state.stats === null || names.some((name) => !state.kinds.has(name)) || events.events.some(({ kind, at_ms: at }) => kind === "reload" && at > eventsSince + 1);
  state.stats = stats;
  remember(history);
  link.age = state.at.length ? history.now_ms - state.at.at(-1) : 0;
  rememberEvents(events.events, eventsSince);
  if (isNew) await learnKinds(names);
  link.rounds += 1;
}

/** What kind each provider is of, which the configuration says. */
async function learnKinds(names) {
  const config = await ask("/config").catch(() => null);
  for (const name of names) state.kinds.set(name, null);
  for (const [name, { kind }] of Object.entries(config?.providers ?? {})) state.kinds.set(name, kind);
}

function show() {
  fillHouse();
  fillLanes();
  const open = Object.values(state.stats.providers).some(({ breaker }) => breaker.state === "open");
  const wrong = state.stats.alerts.length;
  document.title = wrong || open ? `(${wrong}) Sluicegate: ${wrong ? state.stats.alerts[0].kind.replaceAll("_", " ") : "breaker open"}` : "Sluicegate";
  redraw();
}

/** How long to rest after a look that took so long: no less than that, so that a large gateway is not asked all the time. */
const rest = (took) => Math.max(200, EVERY - took, took);

/** One look, and the next one in due time. `now`: whatever the time. */
async function poll(now = false) {
  if (now && link.running) await link.running;
  if (link.running || document.hidden || document.body.dataset.state === "locked") return;
  clearTimeout(link.timer);
  link.next = null;
  link.started = performance.now();
  link.running = visit().then(() => {
    Object.assign(link, { failures: 0, trouble: "", cause: "", answered: performance.now() });
    show();
  }).catch((error) => {
    if (error.status === 401) return lock(link.key ? error.message : "");
    const isOurs = !(error instanceof Refused);
    if (isOurs) console.error(error);
    link.failures += 1;
    link.trouble = isOurs ? "This page cannot read the gateway's answer." : error.status ? "The gateway answers with an error." : "The gateway does not answer.";
    link.cause = isOurs ? String(error) : error.message;
  });
  await link.running;
  link.running = null;
  tell();
  if (document.body.dataset.state === "locked" || document.hidden) return;
  const wait = link.failures === 0 ? rest(performance.now() - link.started) : Math.min(SLOWEST, EVERY * 2 ** (link.failures - 1));
  link.next = performance.now() + wait;
  clearTimeout(link.timer);
  link.timer = setTimeout(poll, wait);
}

/** Says how things stand between page and gateway. */
function tell() {
  if (document.body.dataset.state === "locked") return;
  const now = performance.now();
  const silent = link.answered === null ? null : now - link.answered;
  const age = state.at.length ? serverNow() - state.at.at(-1) : null;
  const late = (link.running !== null && now - link.started > LATE) || (silent !== null && silent > OLD);
  let what = "live";
  if (document.hidden) what = "paused";
  else if (link.failures > 0) what = "unreachable";
  else if (late) what = "late";
  else if (silent === null) what = "connecting";
  else if (link.age > OLD) what = "old";
  mark(document.body, "data-state", what);
  document.body.classList.toggle("stale", what === "unreachable" || what === "old" || what === "paused" || (what === "late" && silent > OLD));
  const seen = silent === null ? "" : `What you see is ${span(age ?? silent)} old`;
  write($("live-text"), {
    live: `Live, ${clock(serverNow())}`,
    connecting: "Connecting",
    paused: "Paused while this tab is hidden",
    late: `Waiting for an answer, for ${span(link.running === null ? silent : now - link.started)}`,
    old: "Not live: old numbers",
    unreachable: "Not live: no answer",
  }[what]);
  const trouble = what === "unreachable" || what === "old";
  write($("no-alerts"), state.stats === null ? "Nothing is known yet." : trouble ? "Nothing was wrong when it was heard last." : "Nothing is wrong.");
  $("outage").hidden = !trouble;
  write($("outage-text"), !trouble ? "" : what === "old" ? "The gateway answers, but its numbers stand still." : link.trouble);
  const again = link.next === null ? "Trying now." : `Trying again in ${Math.max(0, Math.ceil((link.next - now) / 1000))} s.`;
  write($("outage-more"), !trouble ? "" : [link.cause && `(${link.cause})`, seen && `${seen}.`, what === "unreachable" && again].filter(Boolean).join(" "));
  if (what !== "live" && what !== "connecting" && what !== "late") document.title = `${what === "paused" ? "Paused" : "Not live"}: Sluicegate`;
}

function lock(why) {
  memory.set("sessionStorage", "key", null);
  link.key = null;
  clearTimeout(link.timer);
  mark(document.body, "data-state", "locked");
  document.body.classList.remove("stale");
  $("outage").hidden = true;
  $("forget").hidden = true;
  $("drain").disabled = $("reload").disabled = true;
  $("key-form").hidden = false;
  write($("live-text"), "Locked");
  write($("key-wrong"), why);
  if (dialog.open) dialog.close();
  $("key").value = "";
  $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  link.key = $("key").value.trim();
  $("key").value = "";
  memory.set("sessionStorage", "key", link.key);
  open();
});
$("forget").addEventListener("click", () => {
  forgetAll();
  lock("");
});

function open() {
  mark(document.body, "data-state", "connecting");
  $("key-form").hidden = true;
  $("forget").hidden = !link.key;
  $("reload").disabled = false;
  poll();
}

$("retry").addEventListener("click", () => poll(true));
document.addEventListener("visibilitychange", () => {
  clearTimeout(link.timer);
  tell();
  if (!document.hidden) poll(true);
});
setInterval(tell, 500);

if (document.body.dataset.key === "asked" && !link.key) lock("");
else open();
