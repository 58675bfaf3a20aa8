// Reads a JSONL file in the browser, in the forms that the service documents for files:
//
//   {"messages": [...], "tools": [...]}                                       -> an example
//   {"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}  -> a pair

const LARGEST_BYTES = 8 * 2 ** 20;

/** Returns `{examples}` or `{pairs}`. Throws an Error that names the line. */
export async function readJsonl(file) {
  if (file.size > LARGEST_BYTES) throw new Error("The file is larger than 8 MiB, which is the most that one request takes.");
  return parseJsonl(await file.text());
}

export function parseJsonl(text) {
  const examples = [];
  const pairs = [];
  text.split("\n").forEach((line, index) => {
    if (!line.trim()) return;
    const entry = entryOf(line, index + 1);
    if (entry.messages) examples.push(exampleOf(entry));
    else if (entry.input?.messages) pairs.push(pairOf(entry));
    else throw new Error(`Line ${index + 1} has neither the field “messages” of an example nor the field “input” of a pair.`);
  });
  if (examples.length && pairs.length) throw new Error("The file has both conversations and preferences. Use one form.");
  if (!examples.length && !pairs.length) throw new Error("The file has no line.");
  return pairs.length ? { pairs } : { examples };
}

function entryOf(line, number) {
  let entry = null;
  try {
    entry = JSON.parse(line);
  } catch {
    throw new Error(`Line ${number} is not valid JSON.`);
  }
  if (entry === null || typeof entry !== "object" || Array.isArray(entry)) throw new Error(`Line ${number} is not a JSON object.`);
  return entry;
}

const exampleOf = ({ messages, tools }) => ({ messages, ...(tools && { tools }) });

const pairOf = ({ input, preferred_output, non_preferred_output }) => ({
  messages: input.messages, preferred: preferred_output, rejected: non_preferred_output, ...(input.tools && { tools: input.tools }),
});
