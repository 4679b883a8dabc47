// The page for models that write: a conversation, or what follows a prompt, as it is written.

import { ask, base, element, find, tabs, time } from "./page.js";
import { failure } from "./result.js";
import { curl, python } from "./snippets.js";
import { parts } from "./stream.js";

const NUMBERS = ["max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed"];
const MODES = {
  chat: { path: "v1/chat/completions", label: "Message", send: "Send", hint: "Enter sends, Shift + Enter begins a line" },
  completion: { path: "v1/completions", label: "Prompt", send: "Write", hint: "Ctrl + Enter writes" },
};
let model = "";
let mode = "completion";
let guarded = false;  // whether requests need a key
let running = null;  // the AbortController of the text that is written
let failed = null;  // what could not be answered, and goes with the next attempt
let said = [];  // the conversation so far

const text = find("say-text");
const wishes = find("wishes").elements;

/** Have the page be for this model. */
export function begin(api) {
  const { chats, context } = api["x-model"];
  model = api.info.title;
  guarded = Boolean(api.security);
  find("predicting").hidden = true;
  find("writing").hidden = false;
  if (context) {
    wishes.max_tokens.max = context;
    wishes.max_tokens.value = Math.min(wishes.max_tokens.value, Math.ceil(context / 2));
  }
  if (chats) tabs("mode", { chat: "Chat", completion: "Completion" }, change);
  else {
    change("completion");
    find("mode-chat").hidden = true;
    find("mode-completion").hidden = false;
  }
  find("write").disabled = false;
}

function change(chosen) {
  if (running) return false;
  mode = chosen;
  const { label, send, hint } = MODES[mode];
  find("say-label").textContent = label;
  find("write").textContent = send;
  find("say-hint").textContent = hint;
  find("system-field").hidden = mode !== "chat";
  refresh();
  return true;
}

find("say").onsubmit = (event) => {
  event.preventDefault();
  write();
};
text.onkeydown = (event) => {
  if (event.key !== "Enter" || event.isComposing || event.shiftKey) return;
  if (mode === "completion" && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  write();
};
find("wishes").onsubmit = (event) => event.preventDefault();
for (const place of [find("say"), find("wishes")]) place.addEventListener("input", refresh);
find("halt").onclick = () => running?.abort();
find("clear").onclick = () => {
  if (running) return;
  said = mode === "chat" ? [] : said;
  find(mode).replaceChildren();
  text.focus();
  refresh();
};

/** The body of the request for a text that is typed. */
function request(typed) {
  const body = { model };
  if (mode === "chat") {
    const system = wishes.system.value.trim();
    body.messages = [...(system ? [{ role: "system", content: system }] : []), ...said, { role: "user", content: typed }];
  } else body.prompt = typed;
  for (const name of NUMBERS) if (wishes[name].value !== "") body[name] = Number(wishes[name].value);
  const stop = wishes.stop.value.split("\n").filter((one) => one !== "");
  if (stop.length) body.stop = stop;
  return { ...body, stream: true, stream_options: { include_usage: true } };
}

function refresh() {
  const wrong = [...wishes].find((one) => !one.validity.valid);
  for (const one of wishes) one.setAttribute("aria-invalid", one === wrong);
  find("wishes-error").textContent = wrong ? `${wrong.labels[0].firstChild.textContent}: ${wrong.validationMessage}` : "";
  const now = {
    url: new URL(MODES[mode].path, base).href, type: "application/json", text: JSON.stringify(request(text.value || "Hello")),
    accept: "text/event-stream", key: guarded,
  };
  find("code-curl").firstChild.textContent = curl(now);
  find("code-python").firstChild.textContent = python(now);
  return !wrong;
}

/** What is said, on the page; `node` of all of it, `answer` for the text, `facts` and `add` for what belongs to it. */
function turn(typed) {
  const answer = element("div", { className: "text live" });
  const facts = element("p", { className: "facts" });
  const own = element("div", { className: "message model" }, element("p", { className: "who" }, model), answer, facts);
  const asked = element("div", { className: "message user" },
    element("p", { className: "who" }, mode === "chat" ? "You" : "Prompt"), element("div", { className: "text" }, typed));
  const place = find(mode);
  place.append(asked, own);
  place.scrollTop = place.scrollHeight;
  return {
    write(piece) {
      const following = place.scrollHeight - place.scrollTop - place.clientHeight < 40;  // pixels: a line and a half
      answer.append(piece);
      if (following) place.scrollTop = place.scrollHeight;
    },
    tell: (all) => facts.replaceChildren(...all.filter(Boolean).map((one) => element("span", {}, one))),
    end(...more) {
      answer.classList.remove("live");
      facts.after(...more);
      place.scrollTop = place.scrollHeight;
    },
    remove() {
      asked.remove();
      own.remove();
    },
  };
}

async function write() {
  const typed = text.value;
  if (running || find("write").disabled || typed.trim() === "" || !refresh()) return;
  failed?.remove();
  failed = null;
  const body = request(typed);
  const shown = turn(typed);
  running = new AbortController();
  text.value = "";
  busy(true);
  const written = new Written(shown);
  const trouble = await written.all(body, running.signal);
  running = null;
  shown.end(trouble);
  if (written.text === "" && trouble) {
    failed = shown;
    text.value ||= typed;
  } else if (mode === "chat") said.push({ role: "user", content: typed }, { role: "assistant", content: written.text });
  busy(false);
  refresh();
  text.focus();
}

function busy(on) {
  find(mode).setAttribute("aria-busy", on);  // read out when it is whole
  find("write").disabled = on;
  find("halt").hidden = !on;
}

/** One text on its way: what there is of it, and how fast it comes. */
class Written {
  constructor(shown) {
    this.text = "";
    this.shown = shown;
    this.started = performance.now();
    this.first = this.last = 0;
    this.pieces = 0;
    this.tokens = null;  // counted by the server, at the end
    this.reason = "";
  }

  /** Ask for it and show it; a node that says what went wrong, or "". */
  async all(body, signal) {
    try {
      const response = await ask(MODES[mode].path, {
        method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal,
      });
      if (!response.ok) return failure(response.status, await reason(response));
      for await (const { part, error } of parts(response)) {
        if (error !== undefined) return failure(0, error);
        this.add(part);
      }
      return this.reason ? "" : failure(0, "The connection broke before the end.");
    } catch (error) {
      if (error.name === "AbortError") return element("p", { className: "hint" }, "Stopped.");
      return failure(0, this.text ? "The connection broke before the end." : "The server cannot be reached. Is it still running?");
    }
  }

  add(part) {
    const choice = part.choices?.[0];  // the part with the counts has none
    this.reason = choice?.finish_reason ?? this.reason;
    this.tokens = part.usage?.completion_tokens ?? this.tokens;
    const piece = choice?.delta?.content ?? choice?.text;
    if (piece) {
      this.last = performance.now();
      this.first ||= this.last;
      this.pieces += 1;
      this.text += piece;
      this.shown.write(piece);
    }
    this.tell();
  }

  tell() {
    const tokens = this.tokens ?? this.pieces;
    const seconds = (this.last - this.first) / 1000;
    this.shown.tell([
      `${tokens} token${tokens === 1 ? "" : "s"}`,
      this.first > 0 && `first after ${time(this.first - this.started)}`,
      tokens > 1 && seconds > 0 && `${((tokens - 1) / seconds).toFixed(1)} per second`,
      this.reason === "length" && "ended at the most tokens",
    ]);
  }
}

async function reason(response) {
  const { error } = await response.json().catch(() => ({}));
  return String(error?.message ?? error ?? "");
}
