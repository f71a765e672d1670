// The verifier's error by labels: its rates, pass@k with it, and what false positives alone would give.

const hasErrors = () => PAGE.some((each) => each.runs.some((run) => run.error));

function fillErrors() {
  const box = document.getElementById("errors");
  if (!box) return;
  box.replaceChildren(...shownRuns().filter((i) => runs()[i].error).map((i) => errorCard(runs()[i], i)));
  const none = runs().every((run) => !run.error);
  document.getElementById("verifier-error").hidden = none;
  document.querySelector('nav a[href="#verifier-error"]').hidden = none;
}

const fine = (value) => (known(value) ? `${(100 * value).toFixed(2)} %` : "–");
const rateWords = (rate, word) => `${word} ${fine(rate.value)} ${rate.method === "given" ? "(given)" : limits(rate.low, rate.high, fine)}`;

function errorCard(run, i) {
  const error = run.error;
  const dot = el("span", { class: "swatch" });
  dot.style.background = colour(i);
  const by = Object.entries(error.by ?? {}).map(([name, number]) => `${name} ${count(number)}`).join(", ");
  const sentences = [
    `${rateWords(error.false_positives[0], "False positives")}, ${rateWords(error.false_negatives[0], "false negatives")}${by ? `; labels by ${by}` : ""}.`,
    known(error.floor_k) ? `From k = ${count(error.floor_k)} on, false positives alone could give half of pass@k or more.` : "",
    error.explained.length ? `${plural(error.explained.length, "solved problem")} with no more correct rollouts than false positives explain: ${error.explained.slice(0, 8).map((name) => clip(name, 40)).join(", ")}${error.explained.length > 8 ? ", …" : ""}.` : "",
  ].filter(Boolean);
  return el("div", { class: "card wide" },
    el("p", { class: "who" }, dot, run.short),
    ...sentences.map((text) => el("p", { text })),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "pass@k with the verifier's error" }, errorTable(run, error)),
    error.cells?.length ? el("p", { class: "note", text: `Labels by kind of verdict: ${error.cells.map((cell) => `${cell.name}: ${count(cell.misjudged)} of ${count(cell.labelled)} misjudged, of ${plural(cell.rollouts, "rollout")}`).join("; ")}.` }) : null);
}

function errorTable(run, error) {
  const heads = ["", "by its verdicts", "with its error", "false positives alone, up to"];
  const rows = error.pass_at_k.map((each) => {
    const plain = estimates(run, "pass@k").find((other) => other.k === each.k) ?? {};
    return el("tr", {},
      el("th", { scope: "row", text: `pass@${count(each.k)}` }),
      el("td", { text: `${percent(plain.value)} ${limits(plain.low, plain.high, percent)}` }),
      el("td", { text: `${percent(each.value)} ${limits(each.low, each.high, percent)}` }),
      el("td", { text: percent(error.floor[each.k]) }));
  });
  return el("table", { class: "settings" }, el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col", text })))), el("tbody", {}, ...rows));
}
