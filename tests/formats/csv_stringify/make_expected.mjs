// Writes expected.json: tables of nasty values and the bytes that csv-stringify 6 makes of them.
//
//     npm install && node make_expected.mjs
//
// The values are text, whole numbers and nulls: what both sides write alike. Everything is made from a fixed
// seed, so running it again with the same version changes nothing.
import { readFileSync, writeFileSync } from "node:fs";
import { stringify } from "csv-stringify/sync";

const { version } = JSON.parse(readFileSync("node_modules/csv-stringify/package.json", "utf8"));

let state = 20240229;
const random = (below) => {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return (state >> 8) % below;
};

const TEXTS = [
  "", " ", "  x  ", "plain", "a,b", ",", ";", "a;b", "\t", "a\tb", "|", '"', '""', '"quoted"', 'say "hi", she said',
  "\n", "a\nb", "\r", "a\rb", "\r\n", "a\r\nb", "\n\n", "trailing\n", "\"\n,\r\"", "é", "Straße", "日本語", "😀", "👩‍👩‍👧",
  "\u2028", "\u2029", "\u00a0", "a\u0000b", "\u0001\u001f\u007f", "x\ufeffy", "=1+1", "+1", "-1", "@x", "'quoted'", "`",
  "\\", "\\n", "NULL", "null", "true", "1e5", "0x10", "007", "1.0", "x".repeat(3000), '"'.repeat(50), ",".repeat(50),
];
const NUMBERS = [0, 1, -1, 42, -2147483648, 9007199254740991, -9007199254740991];

const value = () => {
  const kind = random(10);
  if (kind === 0) return null;
  if (kind < 3) return NUMBERS[random(NUMBERS.length)];
  if (kind < 8) return TEXTS[random(TEXTS.length)];
  return Array.from({ length: random(6) }, () => TEXTS[random(30)]).join("");
};
const table = (columns, rows) => Array.from({ length: rows }, () => Array.from({ length: columns }, value));

const NAMES = ["id", "a,b", 'c"d', "é", " blank ", "line\nend", "", "g", "h", "i", "j", "k"];
const names = (count) => NAMES.slice(0, count);

const CASES = [
  { name: "every text once", columns: ["n", "text"], rows: TEXTS.map((text, place) => [place, text]) },
  { name: "every text first", columns: ["text", "n"], rows: TEXTS.map((text, place) => [text, place]) },
  { name: "every number", columns: ["n", "x"], rows: NUMBERS.map((number) => [number, "x"]) },
  { name: "one column", columns: ["text"], rows: TEXTS.filter((text) => text !== "").map((text) => [text]) },
  { name: "no rows", columns: ["id", "name"], rows: [] },
  { name: "nulls only", columns: ["a", "b", "c"], rows: [[null, null, null], [null, null, null]] },
  { name: "names that need quotes", columns: names(7), rows: table(7, 3) },
  ...[2, 3, 5, 12].map((count) => ({ name: `${count} columns`, columns: names(count), rows: table(count, 25) })),
  ...[["\t", "tab"], [";", "semicolon"], ["|", "pipe"], [" ", "blank"], ["é", "not ASCII"]].map(([delimiter, name]) => ({
    name: `delimiter: ${name}`, columns: names(4), rows: table(4, 20), dialect: { delimiter },
  })),
  { name: "crlf", columns: names(3), rows: table(3, 30), dialect: { newline: "\r\n" } },
  { name: "bom", columns: names(3), rows: table(3, 5), dialect: { bom: true } },
  { name: "no header", columns: names(3), rows: table(3, 10), dialect: { header: false } },
];

const expected = ({ columns, rows, dialect = {} }) => stringify(rows, {
  header: dialect.header ?? true,
  columns: columns.map((header, place) => ({ key: String(place), header })),
  ...(dialect.delimiter && { delimiter: dialect.delimiter }),
  ...(dialect.newline && { record_delimiter: dialect.newline }),
  ...(dialect.bom && { bom: true }),
});

const cases = CASES.map((found) => ({ dialect: {}, ...found, expected: expected(found) }));
writeFileSync("expected.json", JSON.stringify({ "csv-stringify": version, cases }, null, 1) + "\n");
