// A chart is a card with title, explanation, controls and files. It is drawn when it comes into view. Its drawing, its
// table and its CSV are made from the same rows.

const charts = new Map();
const narrow = () => window.innerWidth < 640;
const chosen = (chart, key) => chart.choice[key];

function cardOf(chart) {
  chart.choice ??= Object.fromEntries((chart.controls ?? []).map((each) => [each.key, each.initial]));
  chart.plot = el("div", { class: "plot", id: `plot-${chart.id}`, role: "img", "aria-labelledby": `title-${chart.id}`, tabindex: chart.keys ? "0" : null });
  chart.note = el("p", { class: "note" });
  chart.table = el("div", { class: "data", hidden: true, tabindex: "0", role: "region", "aria-label": `${chart.title}: data` });
  chart.controlBox = el("div", { class: "controls" });
  const save = (label, action, title) => el("button", { type: "button", class: "quiet", text: label, title, click: action });
  chart.card = el("figure", { class: chart.wide ? "card wide" : "card", id: chart.id },
    el("figcaption", {},
      el("h3", { id: `title-${chart.id}`, text: chart.title }),
      el("p", { class: "explain", text: chart.explain })),
    chart.controlBox,
    chart.plot,
    chart.note,
    chart.table,
    el("div", { class: "files" },
      save("Table", () => toggleTable(chart), "Show the numbers behind this chart"),
      save("CSV", () => download(`${fileName(chart.id)}.csv`, "text/csv", csv(chart.rows(chart))), "Save the numbers behind this chart"),
      ...(chart.figure ? [
        save("PNG", () => saveImage(chart, "png"), "Save this chart as an image"),
        save("SVG", () => saveImage(chart, "svg"), "Save this chart as a drawing")] : [])));
  charts.set(chart.id, chart);
  return chart.card;
}

function fillControls(chart) {
  chart.controlBox.replaceChildren(...(chart.controls ?? []).flatMap((each) => control(chart, each) ?? []));
}

function control(chart, each) {
  const set = (value) => {
    chart.choice[each.key] = value;
    if (each.shared) redraw();
    else draw(chart);
  };
  if (!each.options) {
    const box = el("input", { type: "checkbox", id: `${chart.id}-${each.key}`, change: () => set(box.checked) });
    box.checked = chart.choice[each.key];
    return el("label", { class: "check" }, box, each.label);
  }
  const options = each.options();
  if (options.length < 2) {
    chart.choice[each.key] = options[0]?.[0] ?? null;
    return null;
  }
  if (!options.some(([value]) => value === chart.choice[each.key])) chart.choice[each.key] = each.pick?.(options) ?? options[0][0];
  const select = el("select", { id: `${chart.id}-${each.key}`, change: () => set(options[select.selectedIndex][0]) },
    ...options.map(([, label]) => el("option", { text: label })));
  select.selectedIndex = options.findIndex(([value]) => value === chart.choice[each.key]);
  return el("label", { class: "pick" }, `${each.label} `, select);
}

function draw(chart) {
  if (chart.card.hidden) return;
  fillControls(chart);
  const rows = chart.rows(chart);
  chart.plot.hidden = !rows.length;
  chart.note.textContent = rows.length ? chart.says?.(rows, chart) ?? standardNote(rows) : chart.empty ?? "Not in these scorecards.";
  chart.card.classList.toggle("bare", !rows.length);
  if (rows.length && chart.figure) {
    const figure = chart.figure(rows, chart);
    Plotly.react(chart.plot, figure.data, layoutOf({ width: chart.plot.clientWidth, ...figure.layout }, state.printing), { displayModeBar: false, responsive: false, displaylogo: false });
    if (!chart.wired) chart.wire?.(chart);
    chart.wired = true;
  }
  if (!chart.table.hidden) fillTable(chart);
  chart.drawn = true;
}

function redraw() {
  for (const chart of charts.values()) if (chart.drawn) draw(chart);
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = charts.get(entry.target.id);
    if (entry.isIntersecting && chart && !chart.drawn) draw(chart);
  }
}, { rootMargin: "300px" });

function standardNote(rows) {
  const problems = [...new Set(rows.map((each) => each.n_problems).filter(known))];
  const rollouts = rows.map((each) => each.n_rollouts).filter((value) => value > 0);
  const level = rows.find((each) => known(each.low) && each.level)?.level;
  const range = (values) => (Math.min(...values) === Math.max(...values) ? count(values[0]) : `${count(Math.min(...values))} to ${count(Math.max(...values))}`);
  const parts = [];
  if (problems.length) parts.push(`n = ${range(problems)} problems${rolloutWords(rollouts)}`);
  if (level) parts.push(`intervals at ${100 * level} % over problems`);
  return parts.join("; ") + (parts.length ? "." : "");
}

function layoutOf(own, withLegend) {
  const ink = css("--ink"), soft = css("--soft"), line = css("--line"), ground = css("--card");
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, tickfont: { color: soft }, automargin: true, fixedrange: window.matchMedia("(pointer: coarse)").matches };
  const layout = {
    paper_bgcolor: ground,
    plot_bgcolor: ground,
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif", size: 12, color: ink },
    margin: { l: 52, r: 14, t: 10, b: 44 },
    showlegend: withLegend || Boolean(own.showlegend),
    legend: { orientation: "h", y: -0.2, x: 0, font: { color: ink } },
    hoverlabel: { bgcolor: css("--raised"), bordercolor: line, font: { color: ink, size: 12 }, align: "left" },
    dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hovermode: "closest",
    ...own,
  };
  if (withLegend) layout.showlegend = true;
  for (const name of Object.keys(own).filter((each) => /^[xy]axis\d*$/.test(each))) {
    const title = own[name].title === undefined ? undefined : { text: own[name].title, font: { color: soft, size: 12 }, standoff: 8 };
    layout[name] = { ...axis, ...own[name], title };
  }
  return layout;
}

function saveImage(chart, format) {
  const figure = chart.figure(chart.rows(chart), chart);
  const { width, height } = chart.plot.getBoundingClientRect();
  const layout = layoutOf(figure.layout, true);
  layout.title = { text: `${esc(task().task)}: ${esc(chart.title)}`, font: { size: 14 }, x: 0.01, xanchor: "left" };
  layout.margin = { ...layout.margin, t: 44 };
  Plotly.downloadImage({ data: figure.data, layout }, { format, width: Math.max(width, 700), height: Math.max(height, 380) + 60, scale: format === "png" ? 2 : 1, filename: fileName(chart.id) });
}

const MOST_ROWS = 400;

function toggleTable(chart) {
  chart.table.hidden = !chart.table.hidden;
  if (!chart.table.hidden) fillTable(chart);
}

function fillTable(chart) {
  const rows = chart.rows(chart);
  if (!rows.length) return chart.table.replaceChildren();
  const names = Object.keys(rows[0]).filter((name) => !name.startsWith("_"));
  const cell = (value) => el("td", { text: typeof value === "number" ? decimal(value, 5) : value ?? "", class: typeof value === "number" ? "number" : null });
  const body = rows.slice(0, MOST_ROWS).map((each) => el("tr", {}, ...names.map((name) => cell(each[name]))));
  const rest = rows.length > MOST_ROWS ? el("p", { class: "note", text: `The first ${MOST_ROWS} of ${count(rows.length)} rows; the CSV has all.` }) : null;
  chart.table.replaceChildren(...[el("table", {}, el("thead", {}, el("tr", {}, ...names.map((name) => el("th", { scope: "col", text: name.replaceAll("_", " ") })))), el("tbody", {}, ...body)), rest].filter(Boolean));
  return undefined;
}

// Lines with bands, one per checkpoint. Options: x and y axes, log (x), bands, what (words for a row), format, plain.
function lines(rows, options) {
  const data = [];
  const perRun = [...new Set(rows.map((each) => each._run))];
  for (const i of perRun) {
    const mine = rows.filter((each) => each._run === i);
    const banded = mine.filter((each) => known(each.low) && known(each.high));
    if (options.bands && banded.length) {
      const back = [...banded].reverse();
      data.push({
        type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, line: { width: 0 }, fill: "toself", fillcolor: faded(colour(i), perRun.length > 6 ? 0.09 : 0.15),
        x: [...banded, ...back].map((each) => each[options.x]), y: [...banded.map((each) => each.low), ...back.map((each) => each.high)],
      });
    }
  }
  for (const i of perRun) {
    const mine = rows.filter((each) => each._run === i);
    data.push({
      type: "scatter", mode: mine.length > 40 ? "lines" : "lines+markers", name: esc(runs()[i].short), hoverinfo: "text", hovertext: mine.map((each) => hoverText(each, options)),
      line: { color: colour(i), width: i === state.baseline ? 3 : 2, dash: options.dash ?? dash(i) }, marker: { color: colour(i), size: 6, symbol: symbol(i) },
      x: mine.map((each) => each[options.x]), y: mine.map((each) => each.value),
    });
  }
  return data;
}

function hoverText(each, options) {
  const format = options.format ?? decimal;
  const name = each._run === undefined ? "" : `<b>${esc(each._name ?? runs()[each._run].short)}</b><br>`;
  return `${name}${esc(options.what(each), 120)}: ${format(each.value)} ${limits(each.low, each.high, format)}<br>${basis(each)}`;
}

const KIND_SYMBOLS = { all: "circle-open", correct: "circle", wrong: "diamond" };
const topLegend = () => ({ orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: css("--ink") } });

const errorBars = (rows, color) => ({ type: "data", symmetric: false, array: rows.map((each) => (known(each.high) ? each.high - each.value : 0)), arrayminus: rows.map((each) => (known(each.low) ? each.value - each.low : 0)), thickness: 1.5, width: 0, color });

const logAxis = (title, largest) => {
  const ticks = [];
  for (let k = 1; k <= largest; k *= narrow() ? 4 : 2) ticks.push(k);
  return { type: "log", title, tickvals: ticks, ticktext: ticks.map(count) };
};

// Dots with intervals: a line of the chart per checkpoint (or per value of `at`, with the label `names`), a dot per kind
// (all, correct, wrong; other kinds need `colours` and `symbols`). Rows without a value are left out.
function dots(rows, options) {
  const at = options.at ?? ((each) => each._run);
  const order = [...new Set(rows.map(at))];
  const lineOf = new Map(order.map((key, j) => [key, order.length - 1 - j]));
  const data = options.kinds.map((kind, j) => {
    const mine = rows.filter((each) => each[options.by] === kind && known(each.value));
    const shift = options.level ? 0 : (options.kinds.length - 1) / 2 - j;
    const color = options.colours?.[j] ?? outcomeColour(kind);
    return {
      type: "scatter", mode: "markers", name: kind, hoverinfo: "text", hovertext: mine.map((each) => hoverText(each, options)),
      x: mine.map((each) => each.value), y: mine.map((each) => lineOf.get(at(each)) + shift * 0.22),
      error_x: errorBars(mine, color),
      marker: { color, size: 9, symbol: options.symbols?.[j] ?? KIND_SYMBOLS[kind], line: { width: 2, color } },
    };
  });
  const axis = options.names ? rowAxis(order.map(options.names), options.letters) : checkpointAxis(order);
  const zero = options.zero ? { zeroline: true, zerolinewidth: 2, zerolinecolor: css("--soft") } : {};
  return { data, layout: { height: 96 + 34 * order.length + (options.kinds.length > 1 ? 24 : 0), margin: { l: 20, r: 14, t: 10, b: 44 }, showlegend: options.kinds.length > 1, legend: topLegend(), xaxis: { title: options.title, rangemode: options.rangemode ?? "normal", tickformat: options.tickformat, ...zero }, yaxis: axis } };
}

const rowAxis = (names, letters = 26) => ({
  tickvals: names.map((_, j) => names.length - 1 - j), ticktext: names.map((name) => esc(name, narrow() ? Math.ceil(0.55 * letters) : letters)), range: [-0.6, names.length - 0.4], showgrid: false, zeroline: false,
});
const checkpointAxis = (order) => rowAxis(order.map((i) => runs()[i].short));

// A table of shaded cells with numbers: a row per checkpoint, a column per kind.
function cells(rows, options) {
  const order = [...new Set(rows.map((each) => each._run))];
  const find = (i, column) => rows.find((each) => each._run === i && each[options.by] === column);
  const grid = order.map((i) => options.columns.map((column) => find(i, column))).reverse();
  const top = Math.max(...rows.map((each) => options.scale(each)), 1e-9);
  const z = grid.map((line) => line.map((each) => (each ? options.scale(each) / top : null)));
  const scale = [[0, css("--card")], [1, css("--heat")]];
  return {
    data: [{
      type: "heatmap", z, x: options.columns.map((name) => esc(name)), y: [...order].reverse().map((_, j) => j), zmin: 0, zmax: 1.25, colorscale: scale, showscale: false, xgap: 2, ygap: 2, hoverinfo: "text",
      text: grid.map((line) => line.map((each) => (each ? options.label(each) : ""))), texttemplate: narrow() && options.columns.length > 6 ? "" : "%{text}", textfont: { color: css("--ink"), size: 11 },
      hovertext: grid.map((line) => line.map((each) => (each ? hoverText(each, options) : "not measured"))),
    }],
    layout: { height: 90 + 28 * order.length, margin: { l: 20, r: 10, t: 10, b: 50 }, xaxis: { title: options.title, type: "category", showgrid: false, tickangle: narrow() ? -60 : state.printing ? -35 : 0 }, yaxis: checkpointAxis(order) },
  };
}
