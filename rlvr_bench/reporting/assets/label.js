"use strict";
// Labels rollouts one after another. Texts from runs reach the page only as text nodes.

const PAGE = JSON.parse(document.getElementById("data").textContent);
const WORDS = ["right", "wrong", "unsure"];
const RIGHT = { right: true, wrong: false, unsure: null };
const STORE = `rlvr-bench labels ${PAGE.run}`;
const keyOf = (item) => `${item.text_hash} ${item.index} ${item.problem_id}`;
const state = { at: 0, by: "", labels: new Map(), exported: true };

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// The browser may refuse to store anything: then labels last as long as the page is open.
function restore() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORE) ?? "{}");
    const keys = new Set(PAGE.items.map(keyOf));
    state.by = typeof stored.by === "string" ? stored.by : "";
    state.labels = new Map((stored.labels ?? []).filter(([key, word]) => keys.has(key) && WORDS.includes(word)));
  } catch {
    state.labels = new Map();
  }
  const open = PAGE.items.findIndex((item) => !state.labels.has(keyOf(item)));
  state.at = Math.max(open, 0);
}

function save() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ by: state.by, labels: [...state.labels] }));
  } catch {
    // see restore()
  }
}

function label(word) {
  if (!PAGE.items.length) return;
  state.labels.set(keyOf(PAGE.items[state.at]), word);
  state.exported = false;
  save();
  move(1);
}

function move(step) {
  state.at = Math.min(Math.max(state.at + step, 0), Math.max(PAGE.items.length - 1, 0));
  show();
}

function exportLabels() {
  const by = document.getElementById("by");
  state.by = by.value.trim();
  save();
  if (!state.by) return say("Write your name first: every label says who gave it.", by);
  if (!state.labels.size) return say("No label yet.");
  const lines = PAGE.items.filter((item) => state.labels.has(keyOf(item))).map((item) => JSON.stringify({
    problem_id: item.problem_id, index: item.index, right: RIGHT[state.labels.get(keyOf(item))], by: state.by, text_hash: item.text_hash,
  }));
  const url = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "application/jsonl" }));
  el("a", { href: url, download: "labels.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  state.exported = true;
  return say(`${lines.length} labels exported to labels.jsonl.`);
}

function say(text, focus) {
  document.getElementById("message").textContent = text;
  focus?.focus();
}

function response(item) {
  if (!item.cut) return [item.text];
  const gap = el("span", { class: "gap" }, `\n[${item.cut.toLocaleString("en-US")} characters left out]\n`);
  return [item.text.slice(0, item.cut_at), gap, item.text.slice(item.cut_at)];
}

function bar(item) {
  const chosen = state.labels.get(keyOf(item));
  const by = el("input", { id: "by", placeholder: "your name", "aria-label": "your name", maxlength: "100", input: () => { state.by = by.value; } });
  by.value = state.by;
  return el("div", { class: "bar" },
    el("button", { type: "button", "aria-label": "previous rollout", click: () => move(-1) }, "←"),
    ...WORDS.map((word) => el("button", { type: "button", class: word, "aria-pressed": String(chosen === word), click: () => label(word) }, word)),
    el("button", { type: "button", "aria-label": "next rollout", click: () => move(1) }, "→"),
    el("progress", { max: String(PAGE.items.length), value: String(state.labels.size), "aria-label": "labelled" }),
    el("span", {}, `${state.labels.size} of ${PAGE.items.length} labelled`),
    by,
    el("button", { type: "button", id: "export", click: exportLabels }, "export"));
}

function show() {
  const page = document.getElementById("page");
  const item = PAGE.items[state.at];
  if (!item) {
    page.replaceChildren(el("p", {}, "The sample has no rollouts."));
    return;
  }
  page.replaceChildren(
    bar(item),
    el("p", { class: "message", id: "message", role: "status" }),
    el("p", { class: "who" }, `${state.at + 1}. ${item.problem_id} #${item.index}`),
    el("h2", {}, "problem"), el("pre", { tabindex: "0" }, item.question),
    el("h2", {}, "gold answer"), el("pre", { tabindex: "0" }, item.gold || "(none)"),
    el("h2", {}, "response"), el("pre", { tabindex: "0" }, ...response(item)));
}

document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const word = { r: "right", 1: "right", w: "wrong", 2: "wrong", u: "unsure", 3: "unsure" }[event.key];
  if (word) label(word);
  else if (event.key === "ArrowRight") move(1);
  else if (event.key === "ArrowLeft") move(-1);
});
window.addEventListener("beforeunload", (event) => {
  if (!state.exported) event.preventDefault();
});

restore();
show();
