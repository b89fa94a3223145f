// Charts of an agent: each `<figure data-chart>` names its series and where its numbers come from.
//
// Rules: numbers are asked of the API that everybody may use; colours are the page's; times are in
// the viewer's zone; a chart without numbers says so.

import uPlot from "/static/vendor/uplot.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const COLOURS = ["--accent", "--ok", "--warn", "--bad"];
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

function options(figure, names, show) {
  const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "12px system-ui" };
  return {
    width: figure.clientWidth, height: 170, cursor: { y: false },
    scales: figure.dataset.unit === "percent" ? { y: { range: [0, 100] } } : {},
    series: [{}, ...names.map((label, at) => ({ label, stroke: css(COLOURS[at % COLOURS.length]), width: 1.5, spanGaps: false, dash: at % 2 ? [6, 3] : [], value: (_, value) => (value === null ? "–" : show(value)) }))],
    axes: [axis, { ...axis, size: 72, values: (_, values) => values.map(show) }],
  };
}

async function draw(figure) {
  const names = figure.dataset.series.split(" ");
  const start = new Date(Date.now() - RANGES[figure.dataset.range] * 3600e3).toISOString();
  const reply = await fetch(`${figure.dataset.chart}?start=${encodeURIComponent(start)}`, { headers: { accept: "application/json" } });
  if (!reply.ok) throw new Error(`${reply.status}`);
  const { columns: told, rows } = await reply.json();
  const at = Object.fromEntries(told.map((name, place) => [name, place]));
  const box = figure.querySelector("[data-plot]");
  box.replaceChildren();
  if (!rows.length) {
    box.textContent = "No numbers for this time.";
    return;
  }
  const columns = [rows.map((row) => row[at.at_ms] / 1000), ...names.map((name) => rows.map((row) => row[at[name]] ?? null))];
  const labels = (figure.dataset.labels ?? figure.dataset.series).split("|");
  const plot = new uPlot(options(box, labels.length === names.length ? labels : names, UNITS[figure.dataset.unit]), columns, box);
  new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 170 })).observe(box);
}

function drawAll() {
  for (const figure of document.querySelectorAll("[data-chart]"))
    draw(figure).catch(() => { figure.querySelector("[data-plot]").textContent = "The numbers could not be read; try again."; });
}

drawAll();
document.body.addEventListener("jl:telemetry", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
