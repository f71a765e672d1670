// Responses to read. All of them are text nodes: what a model wrote is shown, never interpreted.

const reader = { problem: null, runs: null, status: "any", page: 0 };
const PER_PAGE = 12;
const STATUS_WORDS = { correct: "correct", wrong: "wrong", no_answer: "no answer", error: "verifier error" };

const withRollouts = () => [...new Set(task().browser.rollouts.map((each) => each.problem))].sort((a, b) => a - b);

function openProblem(j) {
  if (!withRollouts().includes(j)) return;
  Object.assign(reader, { problem: j, page: 0 });
  fillReader();
  document.getElementById("rollouts").scrollIntoView();
}

function readerCard() {
  return el("div", { class: "card wide", id: "reader" });
}

function fillReader() {
  const box = document.getElementById("reader");
  if (!box) return;
  const problems = withRollouts();
  if (!problems.length) {
    box.replaceChildren(el("p", { class: "note", text: "No rollouts on this page: they are read from run folders, and only scorecards were given (or --rollouts 0)." }));
    return;
  }
  if (!problems.includes(reader.problem)) reader.problem = problems[0];
  const j = reader.problem;
  const all = task().browser.rollouts.filter((each) => each.problem === j && !state.hidden.has(each.run) && (reader.status === "any" || each.status === reader.status));
  const shown = all.slice(reader.page * PER_PAGE, (reader.page + 1) * PER_PAGE);
  const tier = task().tiers[j] ? ` · ${task().tiers[j]}` : "";
  const shades = shown.flatMap((each) => each.entropy ?? each.strip ?? []).filter(known);
  const top = Math.max(1, ...shades);
  const parts = [
    readerControls(problems),
    el("div", { class: "question" },
      el("p", { class: "soft", text: `${task().problems[j]}${tier} · solved by ${runs().map((run) => `${run.short} ${count(run.c[j])}/${count(run.n[j])}`).join(", ")}` }),
      el("pre", { class: "text", text: task().questions[j] || "(the text of this problem is not on this page)" })),
    shades.length ? scaleBar(top) : el("p", { class: "note", text: "Tokens are shaded by entropy where a run was drawn with --token-stats full." }),
    el("div", { class: "responses" }, ...shown.map((each) => response(each, top))),
    shown.length ? null : el("p", { class: "note", text: "No such rollout of this problem." }),
    el("p", { class: "note", text: task().browser.note }),
    pager(all.length),
  ];
  box.replaceChildren(...parts.filter(Boolean));
}

function readerControls(problems) {
  const change = (changes) => () => {
    Object.assign(reader, { page: 0 }, changes());
    fillReader();
  };
  const name = (j) => `${task().problems[j]}${task().questions[j] ? `: ${task().questions[j]}` : ""}`.replace(/\s+/gu, " ").slice(0, 90);
  const select = el("select", { id: "reader-problem", change: change(() => ({ problem: problems[select.selectedIndex] })) }, ...problems.map((j) => el("option", { text: name(j) })));
  select.selectedIndex = problems.indexOf(reader.problem);
  const present = ["any", ...Object.keys(STATUS_WORDS).filter((status) => task().browser.rollouts.some((each) => each.status === status))];
  const status = el("select", { id: "reader-status", change: change(() => ({ status: present[status.selectedIndex] })) }, ...present.map((each) => el("option", { text: STATUS_WORDS[each] ?? "any verdict" })));
  status.selectedIndex = Math.max(0, present.indexOf(reader.status));
  const step = (by) => change(() => ({ problem: problems[(problems.indexOf(reader.problem) + by + problems.length) % problems.length] }));
  return el("div", { class: "controls" },
    el("label", { class: "pick" }, "problem ", select),
    el("label", { class: "pick" }, "verdict ", status),
    el("button", { type: "button", class: "quiet", text: "‹ previous", click: step(-1) }),
    el("button", { type: "button", class: "quiet", text: "next ›", click: step(1) }));
}

function pager(total) {
  const pages = Math.ceil(total / PER_PAGE);
  if (pages < 2) return null;
  const go = (by) => () => {
    reader.page = (reader.page + by + pages) % pages;
    fillReader();
  };
  return el("div", { class: "controls" },
    el("button", { type: "button", class: "quiet", text: "‹", "aria-label": "earlier rollouts", click: go(-1) }),
    el("span", { class: "soft", text: `${reader.page + 1} of ${pages}, ${plural(total, "rollout")}` }),
    el("button", { type: "button", class: "quiet", text: "›", "aria-label": "later rollouts", click: go(1) }));
}

function response(each, top) {
  const facts = [`#${each.index}`, `${plural(each.n_tokens, "token")}${each.truncated ? ", cut at the limit" : ""}`];
  if (known(each.entropy_mean)) facts.push(`entropy ${decimal(each.entropy_mean)}`);
  if (each.answer !== null) facts.push(`answer: ${each.answer}`);
  if (each.kind) facts.push(each.kind);
  const dot = el("span", { class: "swatch" });
  dot.style.background = colour(each.run);
  return el("article", { class: `response ${each.status}` },
    el("header", {},
      el("span", { class: "who" }, dot, runs()[each.run].short),
      el("span", { class: `verdict ${each.status}`, text: `${{ correct: "✓", wrong: "✗" }[each.status] ?? "–"} ${STATUS_WORDS[each.status]}` }),
      el("span", { class: "soft", text: facts.join(" · ") })),
    each.strip ? strip(each.strip, top) : null,
    el("pre", { class: "text", tabindex: "0" }, ...(each.pieces ? shadedText(each, top) : plainText(each))));
}

const leftOut = (each) => el("em", { class: "cut", text: ` … ${count(each.cut)} characters left out … ` });

function plainText(each) {
  if (!each.cut) return [each.text];
  return [each.text.slice(0, each.cut_at), leftOut(each), each.text.slice(each.cut_at)];
}

// Lengths are in code points, as counted in Python.
function shadedText(each, top) {
  const letters = Array.from(each.text);
  const nodes = [];
  let at = 0;
  each.pieces.forEach((length, j) => {
    if (each.cut && at === each.cut_at) nodes.push(leftOut(each));
    const value = each.entropy[j];
    const piece = el("span", { text: letters.slice(at, at + length).join(""), title: known(value) ? `entropy ${decimal(value)} nats` : null });
    if (known(value)) piece.style.background = shadeOf(value, top);
    nodes.push(piece);
    at += length;
  });
  return nodes;
}

const shadeOf = (value, top) => `color-mix(in srgb, var(--entropy) ${Math.round(85 * Math.min(value / top, 1))}%, transparent)`;

function strip(values, top) {
  return el("div", { class: "strip", role: "img", "aria-label": "entropy from the beginning to the end of the response", title: "entropy from the beginning to the end of the response" }, ...values.map((value) => {
    const cell = el("span", { title: known(value) ? `${decimal(value)} nats` : "not measured" });
    if (known(value)) cell.style.background = shadeOf(value, top);
    return cell;
  }));
}

function scaleBar(top) {
  const bar = el("span", { class: "ramp" });
  return el("p", { class: "note" }, "Shading: token entropy from 0 ", bar, ` to ${decimal(top, 2)} nats, where the policy had several possible continuations.`);
}
