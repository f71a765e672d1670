"use strict";
// Data, words and files. Texts from runs reach the page only as text nodes, or through esc() into chart labels.

const PAGE = JSON.parse(document.getElementById("data").textContent);
const state = { task: 0, baseline: PAGE[0].baselines[0], hidden: new Set(), theme: "auto", printing: false };

const task = () => PAGE[state.task];
const runs = () => task().runs;
const shownRuns = () => runs().map((_, i) => i).filter((i) => !state.hidden.has(i));
const pairOf = (second) => task().pairs.find((pair) => pair.first === state.baseline && pair.second === second);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "text") node.textContent = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Long names are cut in the middle: the step of a checkpoint is at the end.
function clip(text, most) {
  const letters = Array.from(String(text).slice(0, 5000).replace(/\s+/gu, " "));
  const head = Math.floor(most * 0.4);
  return letters.length > most ? `${letters.slice(0, head).join("")}…${letters.slice(head + 1 - most).join("")}` : letters.join("");
}

// Plotly reads some HTML in labels: with these three characters escaped it finds none.
function esc(text, most = 60) {
  return clip(text, most).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

const known = (value) => typeof value === "number" && Number.isFinite(value);
const count = (value) => (known(value) ? value.toLocaleString("en-US") : "–");
const decimal = (value, digits = 3) => (known(value) ? Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 6 }) : "–");
const percent = (value) => (known(value) ? `${(100 * value).toFixed(1)} %` : "–");
const points = (value) => (known(value) ? `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}` : "–");
const signed = (value) => (known(value) ? `${value < 0 ? "−" : "+"}${decimal(Math.abs(value))}` : "–");
const pValue = (value) => (known(value) ? (value < 0.001 ? "p < 0.001" : `p = ${value.toFixed(3)}`) : "");
const limits = (low, high, format) =>
  known(low) && known(high) ? `[${format(low).replace(" %", "")}, ${format(high).replace(" %", "")}]` : "(no interval)";
const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

// An estimate of a run by name; group undefined means any.
function estimates(run, name, group) {
  run.byName ??= Map.groupBy ? Map.groupBy(run.estimates, (each) => each.name) : grouped(run.estimates);
  const found = run.byName.get(name) ?? [];
  return group === undefined ? found : found.filter((each) => (each.group ?? null) === group);
}

function grouped(list) {
  const groups = new Map();
  for (const each of list) groups.set(each.name, [...(groups.get(each.name) ?? []), each]);
  return groups;
}

// The name of the metric that a chart shows, where it shows one.
const metricOf = (chart) => PAGE[0].metrics.find((each) => each.chart === chart).name;

const has = (name) => runs().some((run) => estimates(run, name).some((each) => known(each.value)));

// One estimate as a row of a chart's data. Keys that begin with _ are not written to files.
function row(i, estimate, more = {}) {
  return {
    _run: i,
    checkpoint: runs()[i].label,
    ...more,
    value: estimate.value ?? null,
    low: estimate.low ?? null,
    high: estimate.high ?? null,
    level: estimate.level ?? 0.95,
    n_problems: estimate.n_problems ?? 0,
    n_rollouts: estimate.n_samples ?? 0,
    method: estimate.method ?? "",
    note: [estimate.note, estimate.caveat].filter(Boolean).join("; "),
    _caveat: estimate.caveat,
  };
}

function rowsOf(name, more, group) {
  return shownRuns().flatMap((i) =>
    estimates(runs()[i], name, group).filter((each) => known(each.value)).map((each) => row(i, each, more(each))));
}

function basis(item) {
  return `${plural(item.n_problems, "problem")}${rolloutWords([item.n_rollouts])}${item._caveat ? `<br>${esc(item._caveat, 160)}` : ""}`;
}

// n_rollouts of an estimate: the fewest rollouts of a problem that enter it.
function rolloutWords(values) {
  const least = Math.min(...values), most = Math.max(...values);
  if (!values.length || !known(most) || most < 1) return "";
  const exact = least === most && runs().every((run) => run.n_max === most);
  return `, ${exact ? "" : "at least "}${least === most ? count(least) : `${count(least)} to ${count(most)}`} ${most === 1 ? "rollout" : "rollouts"} each`;
}

function csv(rows) {
  if (!rows.length) return "";
  const names = [...new Set(rows.flatMap((each) => Object.keys(each)))].filter((name) => !name.startsWith("_"));
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((each) => names.map((name) => each[name]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const fileName = (id) => `${task().task.replace(/[^A-Za-z0-9._-]+/g, "-").slice(0, 60)}-${id}`;
