// The page that shows the OpenAPI document: every route, its bodies, answers and schemas, for people.

import { base, connect, copy, element, find, pretty } from "./page.js";
import { curl, shell } from "./snippets.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const MOST_VALUES = 8;  // of an enumeration
let api = {};

connect((document) => {
  api = document;
  const groups = api.tags.map((tag) => [tag, operations().filter(({ operation }) => operation.tags.includes(tag.name))]);
  find("contents").replaceChildren(
    ...groups.flatMap(([tag, all]) => [caption("h2", tag.name), ...all.map(({ method, path, operation }) =>
      element("a", { href: `#${operation.operationId}` }, badge(method), element("span", {}, path)))]),
    caption("h2", "schemas"), ...Object.keys(api.components.schemas).map(link));
  find("operations").replaceChildren(
    ...groups.flatMap(([tag, all]) => [group(capital(tag.name), tag.description), ...all.map(describe)]),
    group("Schemas", "What bodies and answers are made of."),
    ...Object.entries(api.components.schemas).map(([name, schema]) =>
      element("details", { className: "card", id: `schema-${name}` },
        element("summary", {}, element("code", {}, name), element("span", {}, words(schema).replaceAll("`", ""))),
        element("div", {}, definition(schema), caption("h3", "JSON schema"),
          element("pre", { className: "code", tabIndex: 0 }, pretty(schema))))),
    element("p", { className: "about" }, prose(api.info.description)));
  addEventListener("hashchange", unfold);
  unfold();
});

function operations() {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
}

function unfold() {
  const chosen = find(decodeURIComponent(location.hash.slice(1)));
  if (!chosen) return;
  chosen.open = true;
  chosen.scrollIntoView();
}

function describe({ method, path, operation }, at) {
  const body = operation.requestBody?.content;
  return element("details", { className: "card", id: operation.operationId, open: at === 0 && method === "post" },
    element("summary", {}, badge(method), element("code", {}, path), element("span", {}, operation.summary)),
    element("div", {},
      operation.description && element("p", {}, prose(operation.description)),
      operation.security?.length === 0 && api.security && element("p", { className: "hint" }, "Needs no key."),
      example(filled(path, operation.parameters ?? []), body),
      operation.parameters && [caption("h3", "Parameters"), parameters(operation.parameters)],
      body && [caption("h3", "Body"), medias(body)],
      caption("h3", "Answers"), responses(operation.responses)));
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const caption = (tag, text) => element(tag, { className: "caption" }, text);
const badge = (method) => element("span", { className: `method ${method}` }, method.toUpperCase());
const link = (name) => element("a", { href: `#schema-${name}`, className: "schema-name" }, name);
const group = (title, text) => element("div", { className: "group" }, element("h2", {}, title), element("p", {}, text));

/** A text with `code` in it. */
function prose(text) {
  return (text ?? "").split(/`([^`]*)`/).map((part, at) => (at % 2 ? element("code", {}, part) : part));
}

function parameters(all) {
  return element("dl", { className: "rows" }, all.flatMap((one) => [
    element("dt", {}, one.name),
    element("dd", {}, element("small", {}, `${one.in}, `, type(one.schema), one.required ? ", required. " : ". "), prose(one.description)),
  ]));
}

function medias(content) {
  // Formats of which there is no more to say than their name share a line.
  const known = Object.entries(content).filter(([, { schema }]) => schema.format !== "binary");
  const bare = Object.keys(content).filter((name) => content[name].schema.format === "binary");
  return [
    ...known.flatMap(([name, { schema }]) => [
      element("p", { className: "media" }, element("code", {}, name), " ", element("span", { className: "type" }, type(schema))),
      definition(schema.$ref ? resolved(schema) : schema),
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

/** The path with values for what must be there. */
function filled(path, all) {
  const query = all.filter((one) => one.in === "query" && one.required);
  const whole = all.reduce((now, one) => now.replace(`{${one.name}}`, encodeURIComponent(one.schema.enum?.[0] ?? one.name)), path);
  return whole + (query.length ? `?${new URLSearchParams(query.map((one) => [one.name, one.example ?? ""]))}` : "");
}

function example(path, content) {
  const known = Object.values(content?.["application/json"]?.examples ?? {})[0];
  if (!known && content) return null;
  const url = new URL(path.slice(1), base).href;
  const text = content
    ? curl({ url, type: "application/json", text: JSON.stringify(known.value), key: Boolean(api.security) })
    : `curl ${api.security ? '-H "Authorization: Bearer $API_KEY" ' : ""}${url}`;
  const button = element("button", { type: "button", className: "quiet", onclick: () => copy(text, button) }, "Copy");
  return [
    element("div", { className: "bar example" }, caption("h3", "Example"), button),
    element("pre", { className: "code", tabIndex: 0 }, text),
  ];
}

const named = (schema) => schema.$ref?.split("/").pop();
const resolved = (schema) => (schema.$ref ? api.components.schemas[named(schema)] : schema);

/** What a schema is about, in a sentence. */
function words(schema) {
  if (schema.description) return schema.description;
  return schema.anyOf?.every(named) ? `One of ${schema.anyOf.map(named).join(", ")}.` : "";
}

/** A schema in a few words, as nodes and texts; others' names are links to them. */
function type(schema) {
  if (schema.$ref) return [link(named(schema))];
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.enum) {
    const more = schema.enum.length > MOST_VALUES ? " | …" : "";
    return [schema.enum.slice(0, MOST_VALUES).map((one) => JSON.stringify(one)).join(" | ") + more];
  }
  if (schema.anyOf) return schema.anyOf.flatMap((one, at) => [at ? " or " : "", ...type(one)]);
  if (schema.type === "array") {
    const exact = schema.minItems === schema.maxItems && schema.minItems;
    return [`list of ${exact ? `${exact} × ` : ""}`, ...type(schema.items ?? {})];
  }
  return [[schema.type ?? "any value"].flat().join(" | ") + (schema.contentEncoding ? ` in ${schema.contentEncoding}` : "")];
}

/** What a schema holds: its members, or the forms that it may have. */
function definition(schema) {
  if (schema.anyOf) {
    return element("ul", { className: "schema" }, schema.anyOf.map((one) =>
      element("li", {}, element("span", { className: "type" }, type(one)), " ", element("small", {}, prose(words(resolved(one)))),
        one.$ref && members(resolved(one)))));
  }
  return members(schema) ?? element("p", { className: "hint" }, prose(schema.description));
}

function members(schema) {
  if (!schema.properties) return null;
  const required = schema.required ?? [];
  return element("ul", { className: "schema" }, Object.entries(schema.properties).map(([name, one]) => {
    const known = one.examples?.[0];
    return element("li", {}, element("code", {}, name), " ",
      element("span", { className: "type" }, type(one), required.includes(name) ? "" : ", optional"), " ",
      one.description && element("small", {}, prose(one.description)),
      known !== undefined && typeof known !== "object" && element("small", { className: "type" }, ` e.g. ${JSON.stringify(known)}`),
      !one.$ref && members(one));
  }));
}
