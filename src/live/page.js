"use strict";
// Asks for the sums every second; the answer is empty while nothing has changed.
const PERIOD = 1000;
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [640, 320, 44, 36, 10, 10];
const COLOURS = 8;
const byId = (id) => document.getElementById(id);
let version = -1;

function made(name, text, attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function drawn(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

const score = (value) => (value === null ? "–" : value.toFixed(3));

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

function state(sums) {
  const done = sums.finished + sums.failed;
  const failed = sums.failed ? `, ${sums.failed} failed` : "";
  if (sums.state === "done") return `Done: ${done} trials${failed}.`;
  if (sums.state === "waiting") return "Waiting for the first row.";
  const pace = sums.per_minute === null ? "" : `, ${sums.per_minute.toFixed(sums.per_minute < 10 ? 1 : 0)} a minute`;
  const left = sums.seconds_left === null ? "" : `, ${duration(sums.seconds_left)} to go`;
  return `${done} of ${sums.planned} trials${failed}${pace}${left}.`;
}

// The curves: a series is what a condition is without its ratio; the full cache is the first point of each.
function seriesOf(conditions) {
  const series = new Map();
  const full = conditions.find((one) => one.ratio === 0);
  for (const one of conditions) {
    if (one.ratio === null || one.mean === null || one === full) continue;
    if (!series.has(one.series)) series.set(one.series, full && full.mean !== null ? [full] : []);
    series.get(one.series).push(one);
  }
  if (!series.size && full && full.mean !== null) series.set(full.series, [full]);
  for (const points of series.values()) points.sort((a, b) => a.ratio - b.ratio);
  return series;
}

function curves(conditions) {
  const x = (ratio) => LEFT + ratio * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - value * (HEIGHT - BOTTOM - TOP);
  const parts = [];
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    parts.push(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }));
    parts.push(drawn("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick)));
    parts.push(drawn("text", { x: x(tick), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, String(tick)));
  }
  parts.push(drawn("text", { x: x(0.5), y: HEIGHT - 4, "text-anchor": "middle" }, "fraction evicted"));
  const legend = [];
  let index = 0;
  for (const [name, points] of seriesOf(conditions)) {
    const colour = `c${index++ % COLOURS}`;
    const path = points.map((one, at) => `${at ? "L" : "M"}${x(one.ratio).toFixed(1)},${y(one.mean).toFixed(1)}`).join("");
    parts.push(drawn("path", { class: colour, d: path }));
    for (const one of points) {
      if (one.low !== null) {
        parts.push(drawn("line", { class: colour, x1: x(one.ratio), x2: x(one.ratio), y1: y(one.low), y2: y(one.high) }));
      }
      const dot = drawn("circle", { class: colour, cx: x(one.ratio), cy: y(one.mean), r: 3 });
      dot.append(drawn("title", {}, `${one.condition}: ${score(one.mean)}`));
      parts.push(dot);
    }
    const key = made("span", "");
    const line = drawn("svg", { viewBox: "0 0 24 12", "aria-hidden": "true" });
    line.append(drawn("line", { class: colour, x1: 0, x2: 24, y1: 6, y2: 6, "stroke-width": 3 }));
    key.append(line, name);
    legend.push(key);
  }
  byId("curves").replaceChildren(...parts);
  byId("legend").replaceChildren(...legend);
}

function row(one) {
  const line = document.createElement("tr");
  const interval = one.low === null ? "–" : `${score(one.low)} to ${score(one.high)}`;
  const cells = [one.trials, score(one.mean), interval].map((text) => made("td", text));
  line.append(made("th", one.condition, { scope: "row" }), ...cells);
  return line;
}

function answer(one) {
  const article = document.createElement("article");
  const title = `${one.example}, ${one.condition}: ${one.failed ? "failed" : score(one.score)}`;
  article.append(made("h3", title), made("p", one.text, one.failed ? { class: "failed" } : { dir: "auto" }));
  return article;
}

function show(sums) {
  version = sums.version;
  const done = sums.finished + sums.failed;
  const percent = sums.planned ? Math.floor((100 * done) / sums.planned) : 0;
  document.title = `${sums.state === "done" ? "done" : `${percent}%`} · ${sums.title}`;
  byId("title").textContent = sums.title;
  byId("progress").max = Math.max(sums.planned, 1);
  byId("progress").value = sums.state === "done" ? Math.max(sums.planned, 1) : done;
  byId("state").textContent = state(sums);
  curves(sums.conditions);
  byId("conditions").replaceChildren(...sums.conditions.map(row));
  byId("last").replaceChildren(...sums.last.map(answer));
}

async function poll() {
  let over = false;
  try {
    const response = await fetch(`/sums?after=${version}`);
    if (response.status === 200) {
      const sums = await response.json();
      show(sums);
      over = sums.state === "done";
    }
  } catch {
    byId("state").textContent = "kvllama has stopped watching; these are the last rows it saw.";
    over = true;
  }
  if (!over) setTimeout(poll, PERIOD);
}

poll();
