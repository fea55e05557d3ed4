// The buttons that change something: each says first what it will do, and shows afterwards what came of it.

const ORDERS = {
  drain: {
    path: () => "/drain", yes: "Drain", grave: true, title: () => "Drain the gateway?",
    text: () => `It takes no new request from now on and tells load balancers so; ${count(state.stats?.requests.in_flight)} under way are finished. There is no way back but a restart.`,
  },
  reload: {
    path: () => "/reload", yes: "Reload", title: () => "Read the configuration again?",
    text: () => "It comes into force as a whole, or not at all if anything is wrong in it. What is under way keeps what it began with.",
  },
  pause: {
    path: (name) => `/providers/${encodeURIComponent(name)}/pause`, yes: "Pause", grave: true, title: (name) => `Pause ${name}?`,
    text: (name) => `Nothing new gets into ${name}: requests go to their next target, or are refused as circuit_open. ${underWay(name)} goes on.`,
  },
  resume: {
    path: (name) => `/providers/${encodeURIComponent(name)}/resume`, yes: "Resume", title: (name) => `Resume ${name}?`,
    text: (name) => `${name} takes requests again.`,
  },
  "breaker/open": {
    path: (name) => `/providers/${encodeURIComponent(name)}/breaker/open`, yes: "Open", grave: true, title: (name) => `Open the breaker of ${name}?`,
    text: (name) => `Every request for ${name} goes to its next target, or is refused as circuit_open, until you close the breaker or leave it to itself. ${underWay(name)} goes on.`,
  },
  "breaker/close": {
    path: (name) => `/providers/${encodeURIComponent(name)}/breaker/close`, yes: "Close", title: (name) => `Close the breaker of ${name}?`,
    text: (name) => `Requests go to ${name} however many of them fail, until you leave the breaker to itself or open it.`,
  },
  "breaker/auto": {
    path: (name) => `/providers/${encodeURIComponent(name)}/breaker/auto`, yes: "Leave it to itself", title: (name) => `Leave the breaker of ${name} to itself?`,
    text: () => "It opens and closes by what is counted again.",
  },
};

function underWay(name) {
  const provider = state.stats && Object.hasOwn(state.stats.providers, name) ? state.stats.providers[name] : null;
  return `What is under way (${count(provider?.workers.busy)} at work, ${count(provider?.queue.depth)} waiting)`;
}

const dialog = $("confirm");
let asked = null;

/** Asks whether an order is meant. */
function give(what, name, opener) {
  const order = ORDERS[what];
  asked = { order, name, opener };
  write($("confirm-title"), order.title(name));
  write($("confirm-text"), order.text(name));
  write($("confirm-wrong"), "");
  write($("confirm-yes"), order.yes);
  mark($("confirm-yes"), "class", order.grave ? "sure grave" : "sure");
  $("confirm-yes").disabled = false;
  dialog.showModal();
  $("confirm-no").focus();
}

$("confirm-no").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  const { opener } = asked ?? {};
  asked = null;
  if (opener?.isConnected && !opener.disabled) opener.focus();
  else $("main").querySelector("#alerts").focus();
});

$("confirm-yes").addEventListener("click", async () => {
  if (!asked) return;
  const { order, name } = asked;
  const mine = asked;
  $("confirm-yes").disabled = true;
  try {
    const answer = await ask(order.path(name), { method: "POST", headers: { "x-sluicegate-admin": "1" }, wait: 35_000 });
    notice(true, `${order.title(name).replace("?", "")}: done. ${JSON.stringify(answer)}`);
    if (asked === mine) dialog.close();
    poll(true);
  } catch (error) {
    const more = (error.problems ?? []).map(({ path, message }) => `\n${path}: ${message}`).join("");
    const text = `${order.title(name).replace("?", "")}: not done. ${error.message}${more}`;
    if (asked === mine) write($("confirm-wrong"), text);
    else notice(false, text);
    $("confirm-yes").disabled = false;
  }
});

const MOST_NOTICES = 3;

function notice(done, text) {
  const shut = make("button", { type: "button", "aria-label": "Dismiss" }, "×");
  const node = make("div", done ? {} : { class: "failed" }, make("span", {}, text), shut);
  shut.addEventListener("click", () => node.remove());
  $("notice").prepend(node);
  for (const old of [...$("notice").children].slice(MOST_NOTICES)) old.remove();
}

for (const button of [$("drain"), $("reload")]) button.addEventListener("click", () => give(button.dataset.order, null, button));

const THEMES = [null, "light", "dark"];
function theme(name) {
  mark(document.documentElement, "data-theme", name);
  write($("theme"), `Theme: ${name ?? "system"}`);
  colours.kept.clear();
  redraw();
}
$("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.getAttribute("data-theme")) + 1) % THEMES.length];
  memory.set("localStorage", "theme", next);
  theme(next);
});
theme(THEMES.find((name) => name === memory.get("localStorage", "theme")) ?? null);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours.kept.clear();
  redraw();
});

$("range").addEventListener("change", ({ target }) => {
  state.range = Number(target.value);
  lookAt(null);
});

