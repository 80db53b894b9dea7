// Sorts tables, filters claims, draws charts, opens folded parts. Pages are complete without it.
"use strict";

const collator = new Intl.Collator("en", { numeric: true });

/** What sorting compares: the number in data-sort, or the text; null (sorted last) where there is none. */
function sortKey(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.sort === undefined) {
    const text = cell.textContent.trim();
    return text === "–" ? null : text;
  }
  return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? (a < b ? -1 : a > b ? 1 : 0) : collator.compare(a, b);
}

function sortBy(table, column) {
  const headers = [...table.tHead.rows[0].cells];
  const descending = headers[column].getAttribute("aria-sort") === "ascending";
  const sign = descending ? -1 : 1;
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => ({ row, key: sortKey(row, column) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * compare(a.key, b.key);
  });
  body.append(...keyed.map(({ row }) => row));
  headers.forEach((header) => header.removeAttribute("aria-sort"));
  headers[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    header.append(button);
  });
}

function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) {
    if (part.tagName === "DETAILS") part.open = true;
  }
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
window.addEventListener("hashchange", openTarget);
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not(.long)").forEach((part) => (part.open = true));
});
openTarget();

// --- filters of the claims ------------------------------------------------------------------------

/** Shows the claims that the form asks for, and keeps what it asks for in the address. */
function filterClaims(form) {
  const wanted = Object.fromEntries(new FormData(form));
  const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = new Set();
  const rows = [...document.querySelectorAll(".ledger tbody tr")];
  for (const row of rows) {
    const { paper, topic, verdicts, claim } = row.dataset;
    const judged = verdicts.split("|").map((entry) => entry.split("@"));
    const text = `${claim} ${row.textContent}`.toLowerCase();
    row.hidden = !(
      (!wanted.paper || wanted.paper === paper) &&
      (!wanted.topic || wanted.topic === topic) &&
      judged.some(([verdict, study, seen]) => askedFor(wanted, verdict, study, seen)) &&
      words.every((word) => text.includes(word))
    );
    if (!row.hidden) shown.add(claim);
  }
  for (const square of document.querySelectorAll(".map a.square")) {
    const { claim, verdict, study, seen } = square.dataset;
    square.classList.toggle("faded", !shown.has(claim) || !askedFor(wanted, verdict, study, seen));
  }
  const asked = Object.entries(wanted).filter(([, value]) => value);
  form.querySelector("output").textContent = asked.length ? `${shown.size} of ${rows.length} claims` : "";
  return new URLSearchParams(asked).toString();
}

function askedFor({ verdict, study, seen }, itsVerdict, itsStudy, itsSeen) {
  const decided = itsVerdict !== "not run" || verdict === "not run";
  const inTime = !seen || seen === itsSeen;
  return inTime && (!verdict || verdict === itsVerdict) && (!study || (study === itsStudy && decided));
}

function makeFilters(form) {
  const read = () => {
    if (location.hash && !location.hash.includes("=")) return; // a place on the page, and no filter
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const field of form.elements) if (field.name) field.value = asked.get(field.name) ?? "";
    filterClaims(form);
  };
  const write = () => history.replaceState(null, "", `#${filterClaims(form)}`);
  form.hidden = false;
  form.addEventListener("input", write);
  form.addEventListener("reset", () => setTimeout(write));
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", read);
  read();
  if (location.hash.includes("=")) document.getElementById("claims").scrollIntoView();
}

document.querySelectorAll("form.filters").forEach(makeFilters);

// --- charts ---------------------------------------------------------------------------------------

const FIRST = 8; // so many lines are shown at once; the others wait for a click

function element(parent, name, attributes = {}, text = "") {
  const svg = parent.namespaceURI.endsWith("svg") || name === "svg";
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

/** 0.0213, 1.5e-8, 12,345. */
function shown(value) {
  const size = Math.abs(value);
  if (size >= 1000 && size < 1e7) return Math.round(value).toLocaleString("en");
  return size !== 0 && (size < 1e-3 || size >= 1e7) ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}

/** Places of numbers between two ends of an axis, and its ticks. */
function scale(values, log, from, to, most) {
  const f = log ? Math.log10 : (v) => v;
  let [low, high] = [Math.min(...values), Math.max(...values)].map(f);
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  [low, high] = [low - margin, high + margin];
  const place = (value) => from + ((f(value) - low) / (high - low)) * (to - from);
  const within = (tick) => f(tick) >= low && f(tick) <= high;
  return { place, ticks: (log ? logTicks : linearTicks)(low, high, most).filter(within) };
}

function linearTicks(low, high, most) {
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => (high - low) / s <= most);
  const first = Math.ceil(low / step);
  return Array.from({ length: most + 2 }, (_, k) => Number(((first + k) * step).toPrecision(12)));
}

function logTicks(low, high, most) {
  const decades = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, k) => Math.floor(low) + k);
  for (const parts of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1, 3], [1]]) {
    const ticks = decades.flatMap((d) => parts.map((p) => Number(`${p}e${d}`)));
    const within = ticks.filter((t) => Math.log10(t) >= low && Math.log10(t) <= high);
    if (within.length <= most) return within.length > 1 ? within : linearTicks(10 ** low, 10 ** high, most);
  }
  const stride = Math.ceil(decades.length / most);
  return decades.filter((_, k) => k % stride === 0).map((d) => Number(`1e${d}`));
}

/** Draws one chart: lines along x, or a row of dots for each arm; hover, arrow keys and buttons look closer. */
function makeChart(box) {
  const chart = JSON.parse(box.querySelector("script").textContent);
  const many = chart.kind === "lines" && chart.series.length > FIRST + 2;
  const seen = new Set([...chart.series.keys()].filter((k) => !many || k < FIRST));
  const keys = element(box, "div", { class: "series", role: "group", "aria-label": `What ${chart.title} shows` });
  const plane = element(box, "div", { class: "plane", role: "group", tabindex: "0", "aria-label": `${chart.title}: arrow keys go from value to value` });
  const tip = element(box, "div", { class: "tip", "aria-live": "polite" });
  const buttons = chart.series.map((series, k) => {
    const button = element(keys, "button", { type: "button", style: `--ink:${ink(series.colour)}` });
    element(button, "span", { class: `line ${series.dash}`, "aria-hidden": "true" });
    button.append(series.name);
    button.addEventListener("click", () => show(seen.has(k) ? without(k) : [...seen, k]));
    return button;
  });
  if (chart.series.length > 3) {
    element(keys, "button", { type: "button" }, "all").addEventListener("click", () => show(chart.series.keys()));
    element(keys, "button", { type: "button" }, "none").addEventListener("click", () => show([]));
  }
  const without = (k) => [...seen].filter((other) => other !== k);
  let points = [];
  let at = -1;

  function show(wanted) {
    const now = [...wanted];
    seen.clear();
    now.forEach((k) => seen.add(k));
    draw();
  }

  function draw() {
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(seen.has(k))));
    plane.replaceChildren();
    tip.textContent = "";
    at = -1;
    const width = Math.max(plane.clientWidth - 14, 260);
    points = (chart.kind === "dots" ? drawDots : drawLines)(plane, chart, [...seen].sort((a, b) => a - b), width);
  }

  function point(index) {
    at = index;
    plane.querySelector(".ring")?.remove();
    const found = points[index];
    if (!found) return void (tip.textContent = "");
    element(plane.firstElementChild, "circle", { class: "ring", cx: found.x, cy: found.y, r: 8 });
    tip.textContent = found.text;
    const left = plane.offsetLeft + found.x + 18;
    tip.style.left = `${Math.max(0, Math.min(left, box.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${plane.offsetTop + found.y - tip.offsetHeight - 6}px`;
  }

  plane.addEventListener("pointermove", (event) => {
    const area = plane.firstElementChild.getBoundingClientRect();
    const far = points.map((p) => Math.hypot(p.x - event.clientX + area.left, p.y - event.clientY + area.top));
    const nearest = far.indexOf(Math.min(...far));
    point(far[nearest] < 40 ? nearest : -1);
  });
  plane.addEventListener("pointerleave", () => point(-1));
  plane.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move || !points.length) return;
    event.preventDefault();
    point((at + move + points.length) % points.length);
  });
  new ResizeObserver(draw).observe(box);
}

/** Black lines, the teacher's, follow the text's colour. */
function ink(colour) {
  return colour === "#000000" ? "var(--text)" : colour;
}

function axes(svg, chart, x, y, area, rows) {
  for (const tick of x.ticks) {
    element(svg, "line", { class: "grid", x1: x.place(tick), x2: x.place(tick), y1: area.top, y2: area.bottom });
    element(svg, "text", { x: x.place(tick), y: area.bottom + 17, "text-anchor": "middle" }, shown(tick));
  }
  for (const [place, text] of rows ?? y.ticks.map((tick) => [y.place(tick), shown(tick)])) {
    element(svg, "line", { class: "grid", x1: area.left, x2: area.right, y1: place, y2: place });
    element(svg, "text", { x: area.left - 7, y: place + 4, "text-anchor": "end" }, text);
  }
  element(svg, "line", { class: "frame", x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom });
  const label = { class: "label", x: (area.left + area.right) / 2, y: area.bottom + 36, "text-anchor": "middle" };
  element(svg, "text", label, chart.x);
  if (chart.y) element(svg, "text", { class: "label", x: 2, y: 13 }, chart.y);
}

function cross(svg, x, y, style) {
  element(svg, "path", { class: "ink", style, d: `M${x - 5},${y - 5}l10,10m0,-10l-10,10` });
}

function canvas(plane, title, width, height) {
  return element(plane, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title });
}

function drawLines(plane, chart, seen, width) {
  const height = 360;
  const svg = canvas(plane, chart.title, width, height);
  const area = { left: 62, right: width - 14, top: 24, bottom: height - 46 };
  const all = seen.map((k) => chart.series[k]);
  const xs = all.flatMap((s) => [...s.points.map((p) => p[0]), ...s.lost]).filter((v) => v !== null);
  const ys = all.flatMap((s) => s.points.flatMap((p) => p.slice(1, 4)));
  if (!ys.length && !xs.length) return [];
  const x = scale(xs.length ? xs : [0, 1], chart.x_log, area.left, area.right, width < 500 ? 4 : 8);
  const y = scale(ys.length ? ys : [1, 2], chart.y_log, area.bottom, area.top, 6);
  axes(svg, chart, x, y, area);
  const points = [];
  for (const s of all) {
    const style = `--ink:${ink(s.colour)}`;
    const dash = { "stroke-dasharray": { dashed: "6 4", dotted: "2 3", dashdot: "8 3 2 3" }[s.dash] ?? "none" };
    const seeds = (p) => `${shown(p[1])}` + (p[4] > 1 ? ` (${shown(p[2])} to ${shown(p[3])}, ${p[4]} seeds)` : "");
    if (s.flat) {
      const [value] = s.points;
      const place = y.place(value[1]);
      element(svg, "path", { class: "ink", style, d: `M${area.left},${place}H${area.right}`, ...dash });
      const text = `${s.name}: ${seeds(value)}`;
      points.push({ x: area.left + 20, y: place, text }, { x: area.right - 20, y: place, text });
      continue;
    }
    const places = s.points.map((p) => [x.place(p[0]), y.place(p[1])]);
    if (places.length > 1) element(svg, "path", { class: "ink", style, d: `M${places.join("L")}`, ...dash });
    s.points.forEach((p, k) => {
      const [px, py] = places[k];
      element(svg, "line", { class: "ink reach", style, x1: px, x2: px, y1: y.place(p[2]), y2: y.place(p[3]) });
      element(svg, "circle", { class: "ink", style, cx: px, cy: py, r: s.points.length > 30 ? 1.5 : 3 });
      points.push({ x: px, y: py, text: `${s.name}, ${chart.x.split(" (")[0]} ${shown(p[0])}: ${seeds(p)}` });
    });
    for (const lost of s.lost) {
      cross(svg, x.place(lost), area.top + 4, style);
      points.push({ x: x.place(lost), y: area.top + 4, text: `${s.name}, ${shown(lost)}: diverged` });
    }
  }
  return points;
}

function drawDots(plane, chart, seen, width) {
  const height = 26 * seen.length + 66;
  const svg = canvas(plane, chart.title, width, height);
  const longest = Math.max(0, ...seen.map((k) => chart.series[k].name.length));
  const area = { left: Math.min(7.2 * longest + 16, width * 0.42), right: width - 22, top: 8, bottom: height - 46 };
  const all = seen.map((k) => chart.series[k]);
  const values = all.flatMap((s) => s.points.map((p) => p[0]));
  if (!all.length) return [];
  const x = scale(values.length ? values : [1, 2], chart.x_log, area.left + 8, area.right, width < 500 ? 4 : 8);
  const rows = all.map((s, k) => [area.top + 13 + 26 * k, s.name]);
  axes(svg, chart, x, null, area, rows);
  const points = [];
  all.forEach((s, k) => {
    const style = `--ink:${ink(s.colour)}`;
    for (const [value, steps, seed] of s.points) {
      const place = { x: x.place(value), y: rows[k][0] + (steps === 1 ? -4 : steps === 2 ? 4 : 0) };
      const said = steps === null ? "" : `, ${steps} step${steps > 1 ? "s" : ""}`;
      if (steps === 2) element(svg, "rect", { class: "ink", style, x: place.x - 3.5, y: place.y - 3.5, width: 7, height: 7 });
      else element(svg, "circle", { class: "ink", style, cx: place.x, cy: place.y, r: 3.8 });
      points.push({ ...place, text: `${s.name}${said}, seed ${seed}: ${shown(value)}` });
    }
    for (const seed of s.lost) {
      cross(svg, area.right + 10, rows[k][0], style);
      points.push({ x: area.right + 10, y: rows[k][0], text: `${s.name}, seed ${seed}: diverged` });
    }
  });
  return points;
}

document.querySelectorAll(".chart").forEach(makeChart);
