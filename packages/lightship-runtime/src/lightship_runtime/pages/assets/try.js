// The page that tries the model: form or JSON, the answer, and the same request as code. Models that write have `chat`.

import { ask, base, connect, copy, element, find, hasKey, pretty, tabs, time } from "./page.js";
import { begin } from "./chat.js";
import { makeForm } from "./form.js";
import { failure, results, streamed } from "./result.js";
import { curl, python } from "./snippets.js";
import { parts } from "./stream.js";

const PATH = "predict";
let form = null;
let view = "";  // form or json
let guarded = false;  // whether requests need a key
let running = null;  // the AbortController of the request that runs

const showAnswer = tabs("answer", { result: "Result", json: "JSON" });
tabs("code", { curl: "curl", python: "Python" });
find("copy").onclick = () => copy(document.querySelector("#code-curl:not([hidden]) pre, #code-python:not([hidden]) pre").textContent, find("copy"));

connect((api) => {
  guarded = Boolean(api.security);
  find("code").hidden = false;
  if (api["x-model"].writes) begin(api);
  else predict(api);
});

function predict(api) {
  const { probabilities, streaming } = api["x-model"];
  const example = Object.values(api.paths["/predict"].post.requestBody.content["application/json"].examples ?? {})[0]?.value;
  form = makeForm(api, refresh);
  find("probabilities-label").hidden = !probabilities;
  find("probabilities").checked = probabilities;
  find("stream-label").hidden = !streaming;
  find("stream").value = streaming ? "text/event-stream" : "";
  const fill = () => {
    find("json").value = example === undefined ? "" : pretty(example);
    form?.fill(example?.instances?.[0]);
    refresh();
  };
  find("reset").hidden = example === undefined;
  find("reset").onclick = fill;
  find("ask-form").replaceChildren(form?.node ?? "");
  fill();
  if (form) tabs("ask", { form: "Form", json: "JSON" }, changeView);
  else tabs("ask", { json: "JSON" }, changeView);
  find("send").disabled = false;
}

/** From form to JSON the body goes along; back only where it is one instance that the form can show. */
function changeView(chosen) {
  const back = chosen === "form" && view === "json" && !form.file && find("json").value.trim() !== "";
  if (chosen === "json" && view === "form" && !form.file) find("json").value = form.body().text;
  if (back) {
    const { instances } = parsed() ?? {};
    if (instances?.length !== 1 || !form.fill(instances[0])) {
      find("json-error").textContent = "The form shows one instance with the model’s own values; this is something else.";
      return false;
    }
  }
  view = chosen;
  refresh();
  return true;
}

function parsed() {
  try {
    return JSON.parse(find("json").value);
  } catch {
    return undefined;
  }
}

find("json").oninput = refresh;
for (const id of ["probabilities", "stream"]) find(id).onchange = refresh;

/** The request as it stands; null while there is nothing to send. */
function request() {
  const body = view === "form" && form ? form.body() : { type: "application/json", text: find("json").value };
  if (!body) return null;
  return {
    ...body,
    url: new URL(PATH, base).href,
    query: find("probabilities").checked && !find("stream").value ? "predict_proba=true" : "",
    accept: find("stream").value,
    key: guarded || hasKey(),
  };
}

function refresh() {
  const wrong = view === "json" && find("json").value.trim() !== "" ? mistake(find("json").value) : "";
  find("json-error").textContent = wrong;
  find("json").setAttribute("aria-invalid", wrong !== "");
  const now = request() ?? { type: "application/octet-stream", file: { name: "FILE" }, url: new URL(PATH, base).href };
  find("code-curl").firstChild.textContent = curl(now);
  find("code-python").firstChild.textContent = python(now);
}

function mistake(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return `This is not valid JSON yet: ${error.message}.`;
  }
}

find("ask").onsubmit = (event) => {
  event.preventDefault();
  send();
};
find("ask").onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
};
find("stop").onclick = () => running?.abort();

async function send() {
  const now = request();
  if (running || find("send").disabled) return;
  const wrong = view === "form" ? form?.wrong() : "";
  if (!now || wrong) return show(failure(0, wrong || "Choose a file first."));
  running = new AbortController();
  const slow = setTimeout(() => { find("stop").hidden = false; }, 250);
  busy(true);
  const started = performance.now();
  try {
    const response = await ask(PATH + (now.query && `?${now.query}`), {
      method: "POST",
      body: now.file ?? now.text,
      headers: { "Content-Type": now.type, ...(now.accept && { Accept: now.accept }) },
      signal: running.signal,
    });
    const kind = response.headers.get("Content-Type") ?? "";
    if (response.ok && /event-stream|ndjson/.test(kind)) await showStream(response, started);
    else showWhole(response, await response.text(), started);
  } catch (error) {
    facts([]);
    show(error.name === "AbortError" ? element("p", { className: "empty" }, "Stopped.")
      : failure(0, "The server cannot be reached. Is it still running?"));
  } finally {
    running = null;
    clearTimeout(slow);
    busy(false);
  }
}

function busy(on) {
  find("answer").setAttribute("aria-busy", on);
  find("send").disabled = on;
  if (!on) find("stop").hidden = true;
}

function show(...nodes) {
  find("answer-result").replaceChildren(...nodes);
  showAnswer("result");
}

function facts(all) {
  find("facts").replaceChildren(...all.filter(Boolean));
}

const fact = (text, title = "") => element("span", { title }, text);
const statusFact = (response) => element("b", { className: response.ok ? "" : "bad" }, `${response.status} ${response.statusText}`.trim());

/** What the header Server-Timing says, such as `queue;dur=0.2, predict;dur=1.5`. */
function serverTimes(response) {
  return (response.headers.get("Server-Timing") ?? "").split(",").map((entry) => {
    const duration = /;\s*dur=([\d.]+)/.exec(entry);
    return duration && fact(`${entry.split(";")[0].trim()} ${time(Number(duration[1]))}`, "measured by the server");
  });
}

function showWhole(response, text, started) {
  facts([
    statusFact(response),
    fact(time(performance.now() - started), "from click to answer, measured in this browser"),
    ...serverTimes(response),
    fact(`${new Blob([text]).size} bytes`),
  ]);
  let answer;
  try {
    answer = JSON.parse(text);
    find("answer-json").firstChild.textContent = pretty(answer);
  } catch {
    find("answer-json").firstChild.textContent = text;
  }
  if (!response.ok) show(failure(response.status, answer?.error ?? ""));
  else show(...(answer === undefined ? [element("pre", { className: "code" }, text)] : results(answer)));
}

async function showStream(response, started) {
  const place = streamed();
  const raw = find("answer-json").firstChild;
  let count = 0;
  let first = 0;
  raw.textContent = "";
  show(place.node);
  const tell = () => facts([
    statusFact(response),
    fact(`${count} part${count === 1 ? "" : "s"}`),
    first > 0 && fact(`first after ${time(first - started)}`),
    count > 1 && fact(`${((count - 1) / Math.max(0.001, (performance.now() - first) / 1000)).toFixed(1)} per second`),
    fact(time(performance.now() - started)),
  ]);
  try {
    for await (const { part, error } of parts(response)) {
      if (error !== undefined) {
        place.node.after(failure(0, error));
        break;
      }
      first ||= performance.now();
      count += 1;
      place.add(part);
      raw.append(`${JSON.stringify(part)}\n`);
      tell();
    }
  } catch (error) {
    if (error.name !== "AbortError") place.node.after(failure(0, "The connection broke before the end."));
    else place.node.after(element("p", { className: "hint" }, "Stopped."));
  } finally {
    place.end();
    tell();
  }
}
