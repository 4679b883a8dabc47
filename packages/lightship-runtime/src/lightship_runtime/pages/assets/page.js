// What both pages share: elements, tabs, the API key, and the wait for the model.

export const base = new URL("./", location.href);
export const find = (id) => document.getElementById(id);

/** An element: properties are set as such, attributes where the name has a dash; children are nodes or texts. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties))
    if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  made.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// What the server says that it is busy with, before it is ready.
const PHASES = {
  starting: "Starting", import: "Importing libraries", load: "Loading the model", "warm-up": "Warming up",
  restarting: "Restarting", recovering: "Restarting", draining: "Stopping",
};

let key = "";  // in memory only: gone with the page

export const hasKey = () => key !== "";

/**
 * fetch() below the page's own address, with the API key where there is one: typed here, or into the browser's own
 * prompt. That one the server takes only with a header that no other site can add.
 */
export function ask(path, options = {}) {
  const headers = { ...options.headers, "X-Lightship-Page": "1", ...(key && { Authorization: `Bearer ${key}` }) };
  const credentials = key ? "omit" : "same-origin";
  return fetch(new URL(path, base), { cache: "no-store", credentials, ...options, headers });
}

/** JSON for people: lists and objects that fit on a line are on one. */
export function pretty(value, indent = "") {
  const line = JSON.stringify(value);
  if (typeof value !== "object" || value === null || line.length + indent.length <= 72 && !line.includes("[{")) return spaced(value);
  if (Array.isArray(value) && value.every((one) => typeof one !== "object" || one === null)) return spaced(value);
  const inner = `${indent}  `;
  const parts = Array.isArray(value)
    ? value.map((one) => inner + pretty(one, inner))
    : Object.entries(value).map(([name, one]) => `${inner}${JSON.stringify(name)}: ${pretty(one, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${parts.join(",\n")}\n${indent}${close}`;
}

/** A duration for people. */
export const time = (milliseconds) =>
  milliseconds < 1000 ? `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms` : `${(milliseconds / 1000).toFixed(2)} s`;

function spaced(value) {
  if (Array.isArray(value)) return `[${value.map(spaced).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${spaced(one)}`).join(", ")}}`;
}

/** Tabs over panels with the IDs `prefix-name`; returns a function that selects one. `allows(name)` may refuse. */
export function tabs(prefix, names, allows = () => true) {
  const bar = find(`${prefix}-tabs`);
  const buttons = new Map();
  const select = (chosen) => {
    if (!allows(chosen)) return;
    for (const [name, button] of buttons) {
      button.setAttribute("aria-selected", name === chosen);
      button.tabIndex = name === chosen ? 0 : -1;
      find(`${prefix}-${name}`).hidden = name !== chosen;
    }
  };
  for (const [name, label] of Object.entries(names)) {
    const panel = find(`${prefix}-${name}`);
    const button = element("button", {
      type: "button", role: "tab", id: `${prefix}-${name}-tab`, "aria-controls": panel.id, onclick: () => select(name),
    }, label);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", button.id);
    buttons.set(name, button);
  }
  bar.setAttribute("role", "tablist");
  bar.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const all = [...buttons.keys()];
    const at = all.findIndex((name) => buttons.get(name) === document.activeElement);
    const next = all[(at + step + all.length) % all.length];
    select(next);
    buttons.get(next).focus();
  };
  bar.replaceChildren(...buttons.values());
  select(Object.keys(names)[0]);
  return select;
}

/** Copy a text and say so on the button for a moment. */
export async function copy(text, button) {
  let word = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // no clipboard without HTTPS: the old way
    const area = element("textarea", { value: text, className: "hidden" });
    document.body.append(area);
    area.select();
    if (!document.execCommand("copy")) word = "Press Ctrl+C";
    area.remove();
  }
  const label = button.dataset.label ??= button.textContent;
  button.textContent = word;
  setTimeout(() => { button.textContent = label; }, 1500);
}

/** Wait until the model is ready, then give its OpenAPI document to `show`; afterwards keep the status true. */
export async function connect(show) {
  const since = Date.now();
  let shown = false;
  for (;;) {
    const state = await probe();
    if (state.refused) {
      say("wait", hasKey() ? "Key refused" : "Key needed");
      await typedKey(hasKey());
      continue;
    }
    if (state.ready && !shown) {
      const response = await ask("openapi.json").catch(() => null);
      if (response?.status === 401) {
        say("wait", hasKey() ? "Key refused" : "Key needed");
        await typedKey(hasKey());
        continue;
      }
      if (response?.ok) {
        const api = await response.json();
        find("title").textContent = api.info.title;
        find("version").textContent = `version ${api.info.version}`;
        find("about").textContent = api.info.summary ?? "";
        find("about").hidden = !api.info.summary;
        document.title = `${api.info.title}: ${document.title}`;
        show(api);
        shown = true;
      }
    }
    const seconds = Math.round((Date.now() - since) / 1000);
    say(state.ready ? "good" : state.gone ? "bad" : "wait",
      state.words + (!shown && !state.gone && seconds > 1 ? ` · ${seconds} s` : ""));
    await pause(shown && state.ready ? 10000 : 500);
  }
}

async function probe() {
  try {
    const response = await ask("readyz");
    if (response.status === 401 || response.status === 403) return { refused: true };
    if (response.ok) return { ready: true, words: "Ready" };
    const { status, phase, done } = await response.json().catch(() => ({}));
    const words = PHASES[phase] ?? PHASES[status] ?? String(phase ?? status ?? `Not ready (${response.status})`);
    return { words: words + (done ? ` ${Math.round(100 * done)} %` : "") };
  } catch {
    return { gone: true, words: "Not reachable" };
  }
}

function say(state, words) {
  const status = find("status");
  if (status.textContent !== words) status.textContent = words;
  status.dataset.state = state;
}

/** Show the form for the API key until something is typed. */
function typedKey(wrong) {
  const gate = find("gate");
  const input = element("input", { type: "password", id: "key", autocomplete: "off", required: true, "aria-describedby": "key-hint" });
  const form = element("form", {},
    element("label", { className: "field", for: "key" }, element("span", {}, "API key"), input),
    element("button", { className: "primary" }, "Use this key"),
    element("p", { id: "key-hint", role: "alert", className: wrong ? "error" : "" }, wrong
      ? "The server does not know this key."
      : "This server answers only with a key. It stays in this page’s memory and is gone when you leave."));
  gate.replaceChildren(form);
  gate.hidden = false;
  document.querySelector('nav a[href="openapi.json"]').hidden = true;  // a link sends no key
  input.focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      key = input.value.trim();
      if (!key) return;
      gate.hidden = true;
      resolve();
    };
  });
}

/** Sleep, but not while nobody looks. */
async function pause(milliseconds) {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  if (document.hidden)
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}
