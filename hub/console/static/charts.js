// Charts of an agent: each `<figure data-chart>` names its series and where its numbers come from.
//
// Rules: numbers are asked of the API that everybody may use; colours are the page's; times are in
// the viewer's zone; a chart without numbers says so.

import uPlot from "./vendor/uplot.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const COLOURS = ["--accent", "--ok", "--warn", "--bad"];
const HEIGHT = 170;
const DRAW_MS = 10_000;
const RANGES = { "1h": 1, "24h": 24, "7d": 168, "30d": 720 };
const UNITS = {
  percent: (value) => `${value.toFixed(0)} %`,
  load: (value) => value.toFixed(2),
  ms: (value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`,
  rate(value) {
    let amount = value;
    for (const unit of ["B/s", "KiB/s", "MiB/s"]) {
      if (Math.abs(amount) < 1024) return `${amount.toFixed(0)} ${unit}`;
      amount /= 1024;
    }
    return `${amount.toFixed(1)} GiB/s`;
  },
};

const clock = (options) => {
  const format = new Intl.DateTimeFormat(undefined, options);
  return (seconds) => format.format(seconds * 1000);
};
const exact = clock({ dateStyle: "medium", timeStyle: "medium" });
const second = clock({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minute = clock({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = clock({ day: "numeric", month: "short" });

// Told by how much time a step of the axis is.
function times(_, splits) {
  const step = splits.length > 1 ? splits[1] - splits[0] : 60;
  return splits.map(step < 60 ? second : step < 86400 ? minute : day);
}

function options(box, unit, labels) {
  const show = UNITS[unit];
  const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "12px system-ui" };
  return {
    width: box.clientWidth, height: HEIGHT, cursor: { y: false },
    scales: { y: { range: unit === "percent" ? [0, 100] : (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.1] } },
    series: [
      { label: "Time", value: (_, value) => (value === null ? "–" : exact(value)) },
      ...labels.map((label, at) => ({ label, stroke: css(COLOURS[at % COLOURS.length]), width: 1.5, spanGaps: false, dash: at % 2 ? [6, 3] : [], points: { show: false }, value: (_, value) => (value === null ? "–" : show(value)) })),
    ],
    axes: [{ ...axis, space: 70, values: times }, { ...axis, size: 72, values: (_, values) => values.map(show) }],
  };
}

const plots = new Map(); // figure -> {plot, columns}

function show(figure, columns) {
  const box = figure.querySelector("[data-plot]");
  box.replaceChildren();
  const labels = figure.dataset.labels.split("|");
  plots.set(figure, { plot: new uPlot(options(box, figure.dataset.unit, labels), columns, box), columns });
}

function forget(figure, why) {
  plots.get(figure)?.plot.destroy();
  plots.delete(figure);
  figure.querySelector("[data-plot]").textContent = why;
}

async function draw(figure) {
  const start = new Date(Date.now() - RANGES[figure.dataset.range] * 3600e3).toISOString();
  const reply = await fetch(`${figure.dataset.chart}?start=${encodeURIComponent(start)}`, { headers: { accept: "application/json" } });
  if (!reply.ok) throw new Error(`${reply.status}`);
  const { columns: told, rows } = await reply.json();
  if (!rows.length) {
    forget(figure, "No numbers for this time.");
    return;
  }
  const column = (name) => rows.map((row) => row[told.indexOf(name)] ?? null);
  const columns = [column("at_ms").map((ms) => ms / 1000), ...figure.dataset.series.split(" ").map(column)];
  const known = plots.get(figure);
  if (!known) show(figure, columns);
  else {
    known.columns = columns;
    known.plot.setData(columns);
  }
}

function drawAll() {
  for (const figure of document.querySelectorAll("[data-chart]"))
    draw(figure).catch(() => { if (!plots.has(figure)) forget(figure, "The numbers could not be read; try again."); });
}

// Colours are drawn, not styled: another theme is another picture.
function drawAnew() {
  for (const [figure, { plot, columns }] of [...plots]) {
    plot.destroy();
    show(figure, columns);
  }
}

let drawnAt = Date.now();

function drawLater() {
  if (Date.now() - drawnAt < DRAW_MS) return;
  drawnAt = Date.now();
  drawAll();
}

const sized = new ResizeObserver((entries) => {
  for (const { target } of entries) plots.get(target.closest("[data-chart]"))?.plot.setSize({ width: target.clientWidth, height: HEIGHT });
});
for (const box of document.querySelectorAll("[data-plot]")) sized.observe(box);
drawAll();
document.body.addEventListener("jl:stats", drawLater);
document.body.addEventListener("jl:reconnected", drawLater);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
new MutationObserver(drawAnew).observe(document.documentElement, { attributeFilter: ["data-theme"] });
