// The request on the page as a command for a shell and as a Python program. The key is named, never written out.

export const shell = (text) => (/^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const compact = (text) => {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
};

/** `request`: {url, query, type, text or file, accept, key}. */
export function curl(request) {
  const url = request.url + (request.query ? `?${request.query}` : "");
  const lines = [`curl ${request.accept ? "-N " : ""}${shell(url)}`];
  if (request.key) lines.push('-H "Authorization: Bearer $API_KEY"');
  lines.push(`-H ${shell(`Content-Type: ${request.type}`)}`);
  if (request.accept) lines.push(`-H ${shell(`Accept: ${request.accept}`)}`);
  lines.push(request.file ? `--data-binary ${shell(`@${request.file.name}`)}` : `--data-raw ${shell(compact(request.text))}`);
  return lines.join(" \\\n  ");
}

/** The same with the package requests. */
export function python(request) {
  const headers = [];
  if (request.key) headers.push(`"Authorization": f"Bearer {os.environ['API_KEY']}"`);
  if (request.file) headers.push(`"Content-Type": ${literal(request.type)}`);
  if (request.accept) headers.push(`"Accept": ${literal(request.accept)}`);
  const call = [literal(request.url)];
  if (request.query) {
    const query = [...new URLSearchParams(request.query)].map(([name, value]) => `${literal(name)}: ${literal(value)}`);
    call.push(`params={${query.join(", ")}}`);
  }
  if (headers.length) call.push(`headers={${headers.join(", ")}}`);
  if (request.file) call.push(`data=open(${literal(request.file.name)}, "rb")`);
  else call.push(`json=${value(request.text)}`);
  if (request.accept) call.push("stream=True");
  call.push("timeout=60");
  const rest = request.accept
    ? ["for line in response.iter_lines():", "    print(line.decode())"]
    : ["print(response.json())"];
  return [
    ...(request.key ? ["import os", ""] : []),
    "import requests", "",
    "response = requests.post(", ...call.map((argument) => `    ${argument},`), ")",
    "response.raise_for_status()", ...rest,
  ].join("\n");
}

function value(text) {
  try {
    return literal(JSON.parse(text));
  } catch {
    return "...  # no valid JSON yet";
  }
}

/** A JSON value as Python writes it. */
function literal(given) {
  if (given === null) return "None";
  if (given === true) return "True";
  if (given === false) return "False";
  if (Array.isArray(given)) return `[${given.map(literal).join(", ")}]`;
  if (typeof given === "object")
    return `{${Object.entries(given).map(([name, inner]) => `${literal(name)}: ${literal(inner)}`).join(", ")}}`;
  // Python reads JSON's escapes but for the surrogate pairs, which JSON.stringify leaves as they are.
  return JSON.stringify(given);
}
