// Writes expected.json: the bytes that npm's csv-stringify 6 makes of every case of cases.json.
//
// Anew, from the root of the repository, after a change of make_cases.py or for another version of csv-stringify
// (then change package.json first):
//
//     python -m tests.formats.csv_stringify.make_cases
//     cd tests/formats/csv_stringify && npm install --no-package-lock && npm run expected
//
// Bytes are kept as base64, since some are a byte order mark or a carriage return that an editor would eat.

import { readFileSync, writeFileSync } from "node:fs";
import { finished } from "node:stream/promises";
import { stringify } from "csv-stringify";

const beside = (name) => new URL(name, import.meta.url);
const readJson = (name) => JSON.parse(readFileSync(beside(name), "utf8"));

/**
 * The options of csv-stringify that say what a dialect says; none for the default dialect but `header`.
 * `quote: all` quotes empty fields too. A line end that is named would leave every other line end unquoted, which
 * RFC 4180 §2 does not allow: hence `quote_record_delimiter`.
 */
function options({ columns, dialect }) {
  const found = { columns: columns.map((name) => ({ key: name, header: name })), header: dialect.header ?? true };
  if (dialect.delimiter !== undefined) found.delimiter = dialect.delimiter;
  if (dialect.quote === "all") Object.assign(found, { quoted: true, quoted_empty: true });
  if (dialect.null !== undefined) found.cast = { null: () => dialect.null };
  if (dialect.newline !== undefined) {
    Object.assign(found, { record_delimiter: dialect.newline, quote_record_delimiter: true });
  }
  if (dialect.bom !== undefined) found.bom = dialect.bom;
  if (dialect.escape_formulas !== undefined) found.escape_formulas = dialect.escape_formulas;
  return found;
}

async function encode(test) {
  const stringifier = stringify(options(test));
  const chunks = [];
  stringifier.on("data", (chunk) => chunks.push(chunk));
  for (const row of test.rows) stringifier.write(row);
  stringifier.end();
  await finished(stringifier);
  return Buffer.concat(chunks).toString("base64");
}

const expected = {};
for (const test of readJson("cases.json")) expected[test.name] = await encode(test);
const { version } = readJson("node_modules/csv-stringify/package.json");
const found = { "csv-stringify": version, expected };
writeFileSync(beside("expected.json"), JSON.stringify(found, null, 1) + "\n");
console.log(`csv-stringify ${version}: ${Object.keys(expected).length} cases`);
