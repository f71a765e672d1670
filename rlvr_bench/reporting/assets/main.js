// Builds the page, and updates it when task, baseline, shown checkpoints, theme or window change.

// A result that no run has gets no section; one that the runs of a task lack is hidden.
const SECTIONS = [
  ["reach", "Reach", "What can each checkpoint reach?", [passAtK, difference, caps, tiers, cover, guess]],
  ["problems", "Problems", "Which problems?", [upset, chance, histogram, heat]],
  ["rates", "Solve rates", "How far does a checkpoint reach?", [solveRates]],
  ["policy", "Exploration", "How does the policy explore?", [...(hasTraining() ? [] : [steps]), entropyKinds, branching, profile, lengths]],
  ["training", "Training", "What happens during training?", hasTraining() ? [steps, turnover, stages, outcomeEntropy, law] : []],
  ["shifts", "Shifts", "Where did probability move?", [moves, divergence, perplexities, categories]],
  ["interventions", "Interventions", "Which tokens decide the answer?", [swaps]],
  ["reasoning", "Reasoning", "Is the reasoning valid?", [cot, validReasoning]],
  ["tools", "Tools", "What do tools change?", [toolBoundary, toolCalls]],
  ["responses", "Responses", "What do the responses look like?", [quality, diversity, answerEntropy]],
].map(([id, short, title, list]) => [id, short, title, list.filter((chart) => PAGE.some((each) => isPresent(chart, each)))]).filter(([, , , list]) => list.length);

function isPresent(chart, each) {
  return chart.present ? chart.present(each) : true;
}

function build() {
  const links = [["summary", "Summary"], ...SECTIONS, ...(hasErrors() ? [["verifier-error", "Verifier's error"]] : []), ...(hasOpinions() ? [["second-opinion", "Second opinion"]] : []), ["rollouts", "Rollouts"], ["words", "Words"], ["settings", "Settings"]];
  document.getElementById("top").replaceChildren(
    el("div", { class: "head" },
      el("h1", { id: "title" }),
      el("p", { class: "facts", id: "facts" })),
    el("nav", { "aria-label": "Sections" }, ...links.map(([id, text]) => el("a", { href: `#${id}`, text }))));
  document.getElementById("page").replaceChildren(
    el("div", { class: "bar", id: "bar" }),
    el("section", { id: "summary" }, el("h2", { text: "Summary" }), el("ul", { class: "findings", id: "findings" }), el("div", { id: "summary-table" }), el("div", { id: "notes" })),
    ...SECTIONS.map(([id, , title, list]) => el("section", { id }, el("h2", { text: title }), el("div", { class: "cards" }, ...list.map(cardOf)))),
    ...(hasErrors() ? [el("section", { id: "verifier-error" }, el("h2", { text: "How often does the verifier err?" }), el("div", { id: "errors" }))] : []),
    ...(hasOpinions() ? [el("section", { id: "second-opinion" }, el("h2", { text: "Where we and the other program disagree" }), opinionsBox())] : []),
    el("section", { id: "rollouts" }, el("h2", { text: "Read some rollouts" }), readerCard()),
    el("section", { id: "words" }, el("h2", { text: "What the words mean" }), words()),
    el("section", { id: "settings" }, el("h2", { text: "How the runs were made" }), el("div", { id: "settings-list" })));
  for (const chart of charts.values()) watcher.observe(chart.card);
}

function fill() {
  document.getElementById("title").textContent = task().task;
  document.getElementById("facts").textContent = facts();
  document.getElementById("findings").replaceChildren(...findings().map((text) => el("li", { text })));
  document.getElementById("summary-table").replaceChildren(...summaryTable());
  document.getElementById("notes").replaceChildren(
    ...task().warnings.map((text) => el("p", { class: "note warning", text: `Warning: ${text}` })),
    ...task().notes.map((text) => el("p", { class: "note", text: `Note: ${text}` })));
  document.getElementById("settings-list").replaceChildren(...settings());
  for (const [id, , , list] of SECTIONS) {
    for (const chart of list) chart.card.hidden = !isPresent(chart, task());
    const empty = list.every((chart) => chart.card.hidden);
    document.getElementById(id).hidden = empty;
    document.querySelector(`nav a[href="#${id}"]`).hidden = empty;
  }
  fillBar();
  fillReader();
  fillOpinions();
  fillErrors();
}

function fillBar() {
  const pick = (label, id, options, index, set) => {
    const select = el("select", { id, change: () => set(select.selectedIndex) }, ...options.map((text) => el("option", { text })));
    select.selectedIndex = index;
    return el("label", { class: "pick" }, `${label} `, select);
  };
  const parts = [];
  if (PAGE.length > 1) parts.push(pick("task", "pick-task", PAGE.map((each) => each.task), state.task, (index) => update({ task: index, baseline: PAGE[index].baselines[0], hidden: new Set() })));
  if (runs().length > 1) parts.push(pick("baseline", "pick-baseline", task().baselines.map((i) => clip(runs()[i].short, 40)), task().baselines.indexOf(state.baseline), (index) => update({ baseline: task().baselines[index] })));
  const themes = ["auto", "light", "dark"];
  parts.push(pick("theme", "pick-theme", themes, themes.indexOf(state.theme), (index) => {
    setTheme(themes[index]);
    update({});
  }));
  const chips = runs().map((run, i) => {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = colour(i);
    return el("button", { type: "button", class: "chip", "aria-pressed": String(!state.hidden.has(i)), title: `${run.label}: show or hide in the charts`, click: () => toggleRun(i) }, swatch, clip(run.short, 32));
  });
  document.getElementById("bar").replaceChildren(el("div", { class: "picks" }, ...parts), el("div", { class: "chips", role: "group", "aria-label": "Checkpoints shown in the charts" }, ...chips));
}

function toggleRun(i) {
  const hidden = new Set(state.hidden);
  if (!hidden.delete(i)) hidden.add(i);
  if (hidden.size < runs().length) update({ hidden });
  document.querySelectorAll(".chip")[i].focus();
}

function update(changes) {
  const focused = document.activeElement?.id;
  Object.assign(state, changes);
  fill();
  redraw();
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function print(on) {
  state.printing = on;
  document.body.classList.toggle("printing", on);
  for (const chart of charts.values()) if (on || chart.drawn) draw(chart);
}

let resizing = 0;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(redraw, 150);
});
window.addEventListener("beforeprint", () => print(true));
window.addEventListener("afterprint", () => print(false));
window.addEventListener("scroll", hideTip, { passive: true });
systemDark.addEventListener("change", () => update({}));

build();
fill();
draw(passAtK);
performance.mark("first chart");
