// The form for one instance, made of the schema `Instance`. A form has: node, body() -> {type, text | file}, and
// fill(instance) -> whether it could show that one, and wrong() -> what must be put right before it is sent, or "".

import { element, pretty } from "./page.js";

const MOST_FIELDS = 200;

/** The form that fits the model; null where only JSON will do. */
export function makeForm(api, changed) {
  const { kind, files } = api["x-model"];
  const schema = api.components.schemas.Instance;
  if (kind === "text") return textForm(changed);
  if (kind === "image" || kind === "audio") return fileForm(kind, files, changed);
  if (schema.type === "object") {
    const columns = Object.entries(schema.properties);
    const plain = columns.every(([, cell]) => !["array", "object"].includes(cell.type));
    if (plain && columns.length && columns.length <= MOST_FIELDS)
      return rowForm(columns, (values) => Object.fromEntries(columns.map(([name], at) => [name, values[at]])), changed);
  }
  if (schema.type === "array" && schema.minItems === schema.maxItems && schema.minItems <= MOST_FIELDS
      && !["array", "object"].includes(schema.items.type)) {
    const columns = Array.from({ length: schema.minItems }, (_, at) => [`Value ${at + 1}`, schema.items]);
    return rowForm(columns, (values) => values, changed);
  }
  return null;
}

const json = (instance) => ({ type: "application/json", text: pretty({ instances: [instance] }) });

function rowForm(columns, instance, changed) {
  const inputs = columns.map(([, cell]) => {
    const texts = [cell.type].flat().includes("string");
    return element("input", {
      type: texts ? "text" : "number", step: "any", autocomplete: "off", oninput: changed,
      placeholder: texts ? "text or number" : "missing",
    });
  });
  const value = (input) => {
    const text = input.value.trim();
    if (text === "") return null;  // a missing value
    if (input.type === "number") return Number(text);
    return input.dataset.number && Number.isFinite(Number(text)) ? Number(text) : input.value;
  };
  const fields = columns.map(([name], at) =>
    element("label", { className: "field" }, element("span", {}, name), inputs[at]));
  return {
    node: element("div", { className: "fields" }, fields),
    body: () => json(instance(inputs.map(value))),
    wrong() {
      const at = inputs.findIndex((input) => input.validity.badInput);
      inputs.forEach((input, one) => input.setAttribute("aria-invalid", one === at));
      inputs[at]?.focus();
      return at < 0 ? "" : `${columns[at][0]} is not a number.`;
    },
    fill(row) {
      if (typeof row !== "object" || row === null) return false;
      const values = Array.isArray(row) ? row : columns.map(([name]) => row[name]);
      const fits = values.length === columns.length
        && (Array.isArray(row) || Object.keys(row).length === columns.length)
        && values.every((one, at) => one === null || typeof one === "number" || (typeof one === "string" && inputs[at].type === "text"));
      if (fits) inputs.forEach((input, at) => {
        input.value = values[at] ?? "";
        input.dataset.number = typeof values[at] === "number" ? "yes" : "";
      });
      return fits;
    },
  };
}

function textForm(changed) {
  const area = element("textarea", { rows: 9, placeholder: "Type or paste a text", oninput: changed });
  return {
    node: element("label", { className: "field" }, element("span", {}, "Text"), area),
    body: () => json(area.value),
    wrong: () => "",
    fill(text) {
      if (typeof text === "string") area.value = text;
      return typeof text === "string";
    },
  };
}

function fileForm(kind, types, changed) {
  let file = null;
  const view = element("div", {});
  const input = element("input", { type: "file", accept: types.join(","), "aria-label": `Choose an ${kind} file` });
  const drop = element("div", { className: "drop" }, view, input);
  const show = () => {
    const old = view.querySelector("[src]");
    if (old) URL.revokeObjectURL(old.src);
    if (!file) {
      view.replaceChildren(element("b", {}, `Drop an ${kind} file here`), element("p", {}, "or choose one"));
      return;
    }
    const source = URL.createObjectURL(file);
    const preview = kind === "image"
      ? element("img", { src: source, alt: "The chosen image" })
      : element("audio", { src: source, controls: true });
    view.replaceChildren(preview, element("p", {}, element("b", {}, file.name), ` · ${Math.ceil(file.size / 1000)} kB`));
  };
  const take = (files) => {
    if (!files.length) return;
    [file] = files;
    show();
    changed();
  };
  input.onchange = () => take(input.files);
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  };
  show();
  return {
    node: drop,
    file: true,
    body: () => file && { type: file.type || types[0], file },
    wrong: () => "",
    fill: () => false,
  };
}
