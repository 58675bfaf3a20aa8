// The text of a request for a shell and for Python. The key is always the variable TIGER_API_KEY.

/** Returns the command that sends `request`, as noted in last_request.js. */
export function curlOf({ method, url, body, headers }) {
  const parts = [`curl -sN ${quoted(url)}`];
  if (method !== "GET" && !(method === "POST" && body !== undefined)) parts.push(`-X ${method}`);
  parts.push('-H "Authorization: Bearer $TIGER_API_KEY"');
  for (const [name, value] of Object.entries(headers ?? {})) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body instanceof FormData) {
    for (const [name, value] of body) {
      parts.push(`-F ${quoted(value instanceof File ? `${name}=@${value.name}` : `${name}=${value}`)}`);
    }
  } else if (body !== undefined) {
    parts.push('-H "Content-Type: application/json"', `-d ${quoted(JSON.stringify(body, null, 2))}`);
  }
  return parts.join(" \\\n  ");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Returns the program that sends `request` with httpx. */
export function pythonOf({ method, url, body, headers }) {
  const isStream = body?.stream === true || new URL(url).searchParams.get("follow") === "true";
  const given = [JSON.stringify(method), JSON.stringify(url)];
  const more = Object.entries(headers ?? {}).map(([name, value]) => `, ${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  given.push(`headers={"Authorization": f"Bearer {os.environ['TIGER_API_KEY']}"${more.join("")}}`);
  if (body instanceof FormData) given.push(...formOf(body));
  else if (body !== undefined) given.push(`json=${pythonLiteral(body, "    ")}`);
  given.push("timeout=None");
  const args = given.map((each) => `    ${each},\n`).join("");
  const call = isStream
    ? `with httpx.stream(\n${args}) as answer:\n    for line in answer.iter_lines():\n        print(line)\n`
    : `answer = httpx.request(\n${args})\nprint(answer.text)\n`;
  return `import os\n\nimport httpx\n\n${call}`;
}

function formOf(form) {
  const fields = [...form].filter(([, value]) => !(value instanceof File));
  const files = [...form].filter(([, value]) => value instanceof File);
  return [
    `data=${pythonLiteral(Object.fromEntries(fields), "    ")}`,
    `files={${files.map(([name, file]) => `${JSON.stringify(name)}: open(${JSON.stringify(file.name)}, "rb")`).join(", ")}}`,
  ];
}

/** Returns a value as Python writes it. JSON's texts and numbers are valid Python. */
export function pythonLiteral(value, indent = "") {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const isList = Array.isArray(value);
  const items = isList
    ? value.map((each) => pythonLiteral(each, inner))
    : Object.entries(value).filter(([, each]) => each !== undefined)
      .map(([name, each]) => `${JSON.stringify(name)}: ${pythonLiteral(each, inner)}`);
  const [open, close] = isList ? "[]" : "{}";
  if (!items.length) return open + close;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${close}`;
}
