// Asks for data.json again and again, and draws it. Texts of peers only ever become text nodes.
"use strict";

const PLOTS = [
  { title: "rate", series: [["in_bps", "in"], ["out_bps", "out"]], unit: bits },
  { title: "loss", series: [["loss", "in"]], unit: (value) => `${(value * 100).toFixed(1)} %` },
  { title: "round trip", series: [["rtt_ms", "in"]], unit: milliseconds },
  { title: "queue", series: [["queue_ms", "in"]], unit: milliseconds },
];
const SHORTEST_S = 300; // of the axis, while there is little to show; it grows to an hour
const HOUR_S = 3600;
const sorting = { links: { column: "out b/s", falling: true }, flows: { column: "up/s", falling: true } };
let latest = null;

function bits(value) {
  for (const unit of ["bit/s", "kbit/s", "Mbit/s"]) {
    if (value < 999.5) return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(2)} Gbit/s`;
}

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function makePlots() {
  for (const plot of PLOTS) {
    const figure = element("figure");
    const caption = element("figcaption");
    caption.append(element("b", plot.title));
    plot.now = plot.series.map(([, kind]) => element("span", "", kind));
    caption.append(...plot.now);
    plot.canvas = element("canvas");
    plot.canvas.setAttribute("role", "img");
    plot.canvas.setAttribute("aria-label", `${plot.title} of the last hour`);
    figure.append(caption, plot.canvas);
    document.getElementById("plots").append(figure);
  }
}

// The next round number above: 1, 2 or 5 times a power of ten.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function draw(plot, history) {
  const canvas = plot.canvas;
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const known = plot.series.flatMap(([name]) => history[name]).filter((value) => value !== null);
  const top = ceiling(Math.max(...known, plot.title === "loss" ? 0.01 : 1));
  const left = 4, right = width - 4, floor = height - 18, roof = 6;
  pen.font = "11px system-ui, sans-serif";
  pen.strokeStyle = pen.fillStyle = getComputedStyle(canvas).color;
  pen.globalAlpha = 0.35;
  for (const part of [0, 0.5, 1]) {
    const y = floor - (floor - roof) * part;
    pen.beginPath();
    pen.moveTo(left, y + 0.5);
    pen.lineTo(right, y + 0.5);
    pen.stroke();
  }
  pen.globalAlpha = 1;
  pen.fillText(plot.unit(top), left + 2, roof + 11);
  const count = history.at_s.length;
  const now_s = count ? history.at_s[count - 1] : 0;
  const span_s = Math.min(Math.max(count ? now_s - history.at_s[0] : 0, SHORTEST_S), HOUR_S);
  pen.fillText(`${Math.round(span_s / 60)} min ago`, left, height - 4);
  pen.textAlign = "right";
  pen.fillText("now", right, height - 4);
  plot.series.forEach(([name], index) => {
    pen.strokeStyle = getComputedStyle(plot.now[index]).color;
    pen.lineWidth = 1.5;
    pen.beginPath();
    let drawing = false;
    history[name].forEach((value, at) => {
      const x = right - ((now_s - history.at_s[at]) / span_s) * (right - left);
      if (value === null || x < left) { drawing = false; return; }
      const y = floor - (Math.min(value, top) / top) * (floor - roof);
      if (drawing) pen.lineTo(x, y); else pen.moveTo(x, y);
      drawing = true;
    });
    pen.stroke();
    const last = history[name].length ? history[name][history[name].length - 1] : null;
    const word = plot.series.length > 1 ? `${name.split("_")[0]} ` : "";
    plot.now[index].textContent = last === null ? "-" : word + plot.unit(last);
  });
}

function compare(one, other) {
  return typeof one === "number" ? one - other : String(one).localeCompare(String(other));
}

function fill(name) {
  const data = latest[name], order = sorting[name], column = data.columns.indexOf(order.column);
  const rows = data.values.map((_, row) => row);
  rows.sort((a, b) => compare(data.values[a][column], data.values[b][column]) * (order.falling ? -1 : 1));
  const isNumber = data.columns.map((_, index) => data.values.length > 0 && typeof data.values[0][index] === "number");
  const head = element("tr");
  data.columns.forEach((heading, index) => {
    const button = element("button", heading + (index === column ? (order.falling ? " ▾" : " ▴") : ""));
    button.addEventListener("click", () => {
      sorting[name] = { column: heading, falling: heading === order.column ? !order.falling : true };
      fill(name);
    });
    const cell = element("th", undefined, isNumber[index] ? "number" : "");
    cell.append(button);
    head.append(cell);
  });
  const body = rows.map((row) => {
    const line = element("tr");
    data.cells[row].forEach((text, index) => line.append(element("td", text, isNumber[index] ? "number" : "")));
    return line;
  });
  document.getElementById(name).replaceChildren(head, ...body);
  const shown = rows.length < data.count ? `, the ${rows.length} fastest` : "";
  document.getElementById(`${name}-title`).textContent =
    `${name === "links" ? "Links" : "Flows"} (${data.count}${shown})`;
}

function show() {
  const names = latest.nodes.map((node) => `${node.role} ${node.name}`).join(", ");
  document.getElementById("summary").textContent =
    `${names} · ${latest.version}, ${latest.engine} engine · up ${duration(latest.uptime_s)}`;
  const troubles = latest.nodes.flatMap((node) => node.troubles.map((text) => `${node.name}: ${text}`));
  document.getElementById("troubles").replaceChildren(...troubles.map((text) => element("li", text)));
  PLOTS.forEach((plot) => draw(plot, latest.history));
  fill("links");
  fill("flows");
}

async function renew() {
  let wait_s = 5;
  try {
    const answer = await fetch("data.json");
    if (!answer.ok) throw new Error(`the process answers ${answer.status}`);
    latest = await answer.json();
    wait_s = latest.every_s;
    show();
    document.documentElement.dataset.shown = "yes";
  } catch (error) {
    document.getElementById("summary").textContent = `no figures: ${error.message}`;
  }
  setTimeout(renew, wait_s * 1000);
}

makePlots();
window.addEventListener("resize", () => latest && PLOTS.forEach((plot) => draw(plot, latest.history)));
renew();
