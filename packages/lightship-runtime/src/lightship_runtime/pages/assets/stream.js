// The parts of an answer that streams, from server-sent events or from lines of JSON.

/** Yields {part} for each, or {error} once. Raises what fetch() raises when it is aborted. */
export async function* parts(response) {
  const events = response.headers.get("Content-Type").startsWith("text/event-stream");
  let event = "";
  let data = [];
  for await (const line of lines(response.body)) {
    if (!events) {
      if (line.trim()) yield read(line, "");
    } else if (line === "") {
      if (event === "done" || data[0] === "[DONE]") return;
      if (data.length) yield read(data.join("\n"), event);
      event = "";
      data = [];
    } else if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
  }
}

function read(text, event) {
  let value = text;
  try {
    value = JSON.parse(text);
  } catch { /* a text that is no JSON is shown as it is */ }
  const wrong = event === "error" || (value !== null && typeof value === "object" && Object.keys(value).join() === "error");
  return wrong ? { error: String(value?.error?.message ?? value?.error ?? value) } : { part: value };
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const all = (rest + value).split(/\r?\n/);
      rest = all.pop();
      yield* all;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}
