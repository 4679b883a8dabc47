// An answer as people read it: predictions, probabilities as bars, failures in words, parts as they stream in.

import { element, pretty } from "./page.js";

const MOST_RESULTS = 50;
const MOST_BARS = 10;
const REMEDIES = {
  401: "The API key is missing or not known.",
  413: "The body is too large.",
  415: "This format is not understood.",
  429: "The server has all hands full. Try again in a moment.",
  503: "The model is not ready, or the server is stopping.",
  504: "The answer took too long.",
};

/** Nodes for an answer `{predictions, probabilities, classes}`. */
export function results(answer) {
  const predictions = answer?.predictions;
  if (!Array.isArray(predictions)) return [valueNode(answer)].flat();
  const nodes = predictions.slice(0, MOST_RESULTS).map((prediction, at) =>
    element("div", { className: "result" },
      predictions.length > 1 && element("p", { className: "number" }, `${at + 1} of ${predictions.length}`),
      valueNode(prediction),
      bars(answer.probabilities?.[at], answer.classes)));
  const more = predictions.length - MOST_RESULTS;
  if (more > 0) nodes.push(element("p", { className: "hint" }, `${more} more are in the JSON.`));
  return nodes;
}

export function failure(status, message) {
  return element("div", { className: "failure", role: "alert" },
    message || "The server gave no reason.",
    REMEDIES[status] && REMEDIES[status] !== message && element("small", {}, REMEDIES[status]));
}

/** A place for parts that stream in: add(part), end(). Texts are joined, other values get a line each. */
export function streamed() {
  const node = element("div", { className: "streamed live", role: "log" });
  return {
    node,
    add: (part) => node.append(typeof part === "string" ? part : `${pretty(part)}\n`),
    end: () => node.classList.remove("live"),
  };
}

function valueNode(value) {
  if (typeof value !== "object" || value === null) {
    const text = String(value);
    return element("p", { className: text.length > 60 ? "value long" : "value" }, text);
  }
  if (isLabel(value)) return [element("p", { className: "value" }, value.label), bars([value.score], [value.label])];
  if (Array.isArray(value) && value.length && value.every(isLabel))
    return bars(value.map(({ score }) => score), value.map(({ label }) => label));
  if (Array.isArray(value.labels) && Array.isArray(value.scores)) return bars(value.scores, value.labels);
  return element("pre", { className: "code", tabIndex: 0 }, pretty(value));
}

/** As classifiers of text and images answer: {label, score} and nothing else. */
const isLabel = (value) => typeof value?.label === "string" && typeof value.score === "number" && Object.keys(value).length === 2;

function bars(shares, labels) {
  if (!Array.isArray(shares) || !shares.every((one) => typeof one === "number")) return null;
  const sorted = shares.map((share, at) => [share, String(labels?.[at] ?? at)]).sort((a, b) => b[0] - a[0]);
  const items = sorted.slice(0, MOST_BARS).map(([share, label]) => {
    const fill = element("i");
    fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
    return element("li", {},
      element("span", { className: "label" }, label),
      element("span", { className: "share" }, percent(share)),
      element("span", { className: "track", "aria-hidden": "true" }, fill));
  });
  return [
    element("ol", { className: "bars", "aria-label": "Probabilities" }, items),
    sorted.length > MOST_BARS && element("p", { className: "hint" }, `and ${sorted.length - MOST_BARS} classes more`),
  ];
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(100 * share).toFixed(1)} %`;
}
