// The page that shows the OpenAPI document: every route, its bodies, answers and schemas, for people.

import { base, connect, copy, element, find } from "./page.js";
import { curl } from "./snippets.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST = 6;
let api = {};

connect((document) => {
  api = document;
  find("about").replaceChildren(...prose(api.info.description ?? ""));
  find("about").hidden = !api.info.description;
  const groups = api.tags.map((tag) => [tag, operations().filter(({ operation }) => operation.tags.includes(tag.name))]);
  find("contents").replaceChildren(...groups.flatMap(([tag, all]) => [
    element("h4", {}, tag.name),
    ...all.map(({ method, path, operation }) =>
      element("a", { href: `#${operation.operationId}` }, badge(method), element("span", {}, path))),
  ]));
  find("operations").replaceChildren(...groups.flatMap(([tag, all]) => [
    element("div", { className: "group" }, element("h2", {}, capital(tag.name)), element("p", {}, tag.description)),
    ...all.map(describe),
  ]));
  addEventListener("hashchange", unfold);
  unfold();
});

function operations() {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
}

function unfold() {
  const chosen = find(location.hash.slice(1));
  if (!chosen) return;
  chosen.open = true;
  chosen.scrollIntoView();
}

function describe({ method, path, operation }, at) {
  const body = operation.requestBody?.content;
  return element("details", { className: "card", id: operation.operationId, open: at === 0 && method === "post" },
    element("summary", {}, badge(method), element("code", {}, path), element("span", {}, operation.summary)),
    element("div", {},
      element("p", {}, prose(operation.description ?? "")),
      operation.security?.length === 0 && api.security && element("p", { className: "hint" }, "Needs no key."),
      operation.parameters && [element("h4", {}, "Parameters"), parameters(operation.parameters)],
      body && [element("h4", {}, "Body"), ...medias(body)],
      example(method, path, body),
      element("h4", {}, "Answers"), responses(operation.responses)));
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const badge = (method) => element("span", { className: `method ${method}` }, method.toUpperCase());

/** A text with `code` in it. */
function prose(text) {
  return text.split(/`([^`]*)`/).map((part, at) => at % 2 ? element("code", {}, part) : part);
}

function parameters(all) {
  return element("dl", { className: "rows" }, all.flatMap((one) => [
    element("dt", {}, one.name),
    element("dd", {}, element("small", {}, `${one.in}, ${type(one.schema)}${one.required ? ", required" : ""}. `), prose(one.description ?? "")),
  ]));
}

function medias(content) {
  // Formats of which no more is known than their name share a line.
  const named = Object.entries(content).filter(([, media]) => media.schema);
  const bare = Object.keys(content).filter((name) => !content[name].schema);
  return [
    ...named.flatMap(([name, { schema }]) => [
      element("p", { className: "media" }, element("code", {}, name), " ", element("span", { className: "type" }, type(schema))),
      tree(schema, 0),
    ]),
    bare.length > 0 && element("p", { className: "media" }, bare.flatMap((name) => [element("code", {}, name), " "])),
  ];
}

function responses(all) {
  return element("dl", { className: "rows" }, Object.entries(all).flatMap(([status, response]) => [
    element("dt", {}, status),
    element("dd", {}, prose(response.description),
      Object.entries(response.headers ?? {}).map(([name, header]) => element("div", {}, element("code", {}, name), " ", element("small", {}, header.description))),
      status === "200" && response.content && medias(response.content)),
  ]));
}

function example(method, path, content) {
  const known = Object.values(content?.["application/json"]?.examples ?? {})[0];
  if (!known && content) return null;
  const url = new URL(path.slice(1), base).href;
  const text = content
    ? curl({ url, type: "application/json", text: JSON.stringify(known.value), key: Boolean(api.security) })
    : `curl ${api.security ? '-H "Authorization: Bearer $API_KEY" ' : ""}${url}`;
  const button = element("button", { type: "button", className: "quiet", onclick: () => copy(text, button) }, "Copy");
  return [
    element("div", { className: "bar" }, element("h4", {}, "Example"), button),
    element("pre", { className: "code", tabIndex: 0 }, text),
  ];
}

const named = (schema) => schema.$ref?.split("/").pop();
const resolved = (schema) => (schema.$ref ? api.components.schemas[named(schema)] : schema);

/** A schema in a few words. */
function type(given, depth = 0) {
  const schema = resolved(given);
  if (given.$ref && (schema.type === "object" || schema.anyOf)) return named(given);
  if (schema.enum) return schema.enum.slice(0, 8).map((one) => JSON.stringify(one)).join(" | ") + (schema.enum.length > 8 ? " | …" : "");
  if (schema.anyOf) return schema.anyOf.map((one) => type(one, depth + 1)).join(" or ");
  if (schema.type === "array") {
    const count = schema.minItems === schema.maxItems && schema.minItems ? `${schema.minItems} × ` : "";
    return depth < DEEPEST ? `list of ${count}${type(schema.items ?? {}, depth + 1)}` : "list";
  }
  return [schema.type ?? "any value"].flat().join(" | ") + (schema.contentEncoding ? ` (${schema.contentEncoding})` : "");
}

/** What a schema holds, unfolded. */
function tree(given, depth) {
  const schema = resolved(given);
  if (depth > DEEPEST) return null;
  if (schema.anyOf) {
    return element("ul", { className: "schema" }, schema.anyOf.map((one) => {
      const inner = resolved(one);
      return element("li", {}, element("b", {}, named(one) ?? type(one)), " ",
        element("span", { className: "type" }, type(inner.anyOf ? inner : { ...inner })), note(inner), inside(inner, depth + 1));
    }));
  }
  return inside(schema, depth) ?? (schema.description && depth === 0 ? element("p", { className: "hint" }, prose(schema.description)) : null);
}

function inside(schema, depth) {
  if (!schema.properties || depth > DEEPEST) return null;
  const required = schema.required ?? [];
  return element("ul", { className: "schema" }, Object.entries(schema.properties).map(([name, one]) => {
    const inner = resolved(one);
    return element("li", {}, element("code", {}, name), " ",
      element("span", { className: "type" }, type(one), required.includes(name) ? ", required" : ""), note(inner),
      !one.$ref && inside(inner, depth + 1));
  }));
}

function note(schema) {
  const known = schema.examples?.[0];
  return [
    schema.description && element("small", {}, " ", prose(schema.description)),
    known !== undefined && typeof known !== "object" && element("small", { className: "type" }, ` e.g. ${JSON.stringify(known)}`),
  ];
}
