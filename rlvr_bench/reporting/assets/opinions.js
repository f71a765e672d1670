// Where our verifier and the other program that judged an imported run disagree. All texts are text nodes.

const hasOpinions = () => PAGE.some((each) => each.opinions.length > 0);

function opinionsBox() {
  return el("div", { id: "opinions" });
}

function fillOpinions() {
  const box = document.getElementById("opinions");
  if (!box) return;
  const shown = task().opinions.filter((each) => !state.hidden.has(each.run));
  box.replaceChildren(...shown.map(opinionCard));
  document.getElementById("second-opinion").hidden = task().opinions.length === 0;
  document.querySelector('nav a[href="#second-opinion"]').hidden = task().opinions.length === 0;
}

function opinionCard(opinion) {
  const dot = el("span", { class: "swatch" });
  dot.style.background = colour(opinion.run);
  return el("div", { class: "card wide opinion" },
    el("p", { class: "who" }, dot, runs()[opinion.run].short),
    el("p", { class: "opinion-summary", text: `${opinion.summary[0].toUpperCase()}${opinion.summary.slice(1)}.` }),
    el("p", { class: "soft", text: `Ours: ${opinion.verifier}. Theirs: ${opinion.program}. Open a line to read the response.` }),
    ...opinion.rows.map(disagreement),
    opinion.note ? el("p", { class: "note", text: opinion.note }) : null);
}

const verdictWord = (whose, status) => el("span", { class: `verdict ${status}`, text: `${whose} ${{ correct: "✓", wrong: "✗" }[status] ?? "–"} ${STATUS_WORDS[status] ?? status}` });

// The content is made when it is opened: a page may have many long responses.
function disagreement(row) {
  const body = el("div", {});
  const open = () => {
    if (box.open && !body.childNodes.length) body.replaceChildren(...disagreementBody(row));
  };
  const box = el("details", { class: "disagreement", toggle: open },
    el("summary", {},
      el("span", { class: "name", text: `${clip(row.problem, 60)} #${row.index}` }),
      verdictWord("theirs", row.theirs),
      verdictWord("ours", row.ours),
      row.reason ? el("span", { class: "soft", text: row.reason }) : null),
    body);
  return box;
}

function disagreementBody(row) {
  const j = task().problems.indexOf(row.problem);
  const facts = [["gold", row.gold], ["their answer", row.their_answer], ["our answer", row.our_answer]];
  const short = el("dl", { class: "answers" }, ...facts.flatMap(([name, value]) => [
    el("dt", { text: name }),
    el("dd", {}, value === null || value === "" ? el("span", { class: "soft", text: "none" }) : el("code", { text: value }))]));
  return [
    el("div", { class: "question" }, el("pre", { class: "text", tabindex: "0", text: (j >= 0 && task().questions[j]) || "(the text of this problem is not on this page)" })),
    short,
    el("p", { class: "soft", text: "response" }),
    el("pre", { class: "text response-text", tabindex: "0" }, ...plainText({ cut: 0, ...row })),
  ];
}
