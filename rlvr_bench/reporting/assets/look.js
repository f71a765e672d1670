// Colours, line styles, light and dark, and the one tooltip.

// Okabe and Ito's colours, then Tol's: distinct with every common colour blindness; lighter ones on a dark background.
const COLOURS = {
  light: ["#0072b2", "#d55e00", "#008060", "#b0508c", "#b07d00", "#3a9bd1", "#5b3a98", "#7a5c1e", "#882255", "#2f8f83", "#5a5a5a", "#8a8a2a"],
  dark: ["#58b4f0", "#ff8f4d", "#3ccf9f", "#e79ac6", "#f0c040", "#9bd4f5", "#b9a3ec", "#c9a86a", "#e0789f", "#7fd8cb", "#b5b5b5", "#cfcf70"],
};
// A training series has one ordered scale instead: viridis, without the end that is close to the background.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon"];
const OUTCOMES = { light: { all: "#6b7280", correct: "#0072b2", wrong: "#d55e00" }, dark: { all: "#a8b0bd", correct: "#58b4f0", wrong: "#ff8f4d" } };

const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => !state.printing && (state.theme === "auto" ? systemDark.matches : state.theme === "dark");
const shade = () => (isDark() ? "dark" : "light");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function isSeries() {
  const names = runs().map((run) => run.series);
  return runs().length > 2 && names.every((name) => name !== null && name === names[0]);
}

function colour(i) {
  if (!isSeries()) return COLOURS[shade()][i % COLOURS.light.length];
  const steps = runs().map((run) => run.step).sort((a, b) => a - b);
  const share = steps.indexOf(runs()[i].step) / (steps.length - 1);
  return viridis(isDark() ? 0.3 + 0.7 * share : 0.86 * share);
}

function viridis(share) {
  const position = share * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(position), VIRIDIS.length - 2);
  const mixed = VIRIDIS[low].map((value, j) => Math.round(value + (position - low) * (VIRIDIS[low + 1][j] - value)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

const faded = (hex, alpha) => `rgba(${[1, 3, 5].map((j) => parseInt(hex.slice(j, j + 2), 16)).join(",")},${alpha})`;
const symbol = (i) => SYMBOLS[i % SYMBOLS.length];
const dash = (i) => (isSeries() || i < SYMBOLS.length ? "solid" : "dash");
const outcomeColour = (name) => OUTCOMES[shade()][name];

function setTheme(theme) {
  state.theme = theme;
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme);
}

// The tooltip takes text only; hover labels of charts go through esc().
function showTip(lines, x, y) {
  const tip = document.getElementById("tip");
  tip.replaceChildren(...lines.filter(([, text]) => text).map(([kind, text]) => el("div", { class: kind, text })));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, window.innerWidth - box.width - 8))}px`;
  tip.style.top = `${y + 18 + box.height > window.innerHeight ? Math.max(8, y - box.height - 14) : y + 18}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}
