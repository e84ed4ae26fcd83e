"use strict";

/* Texts of the build reach the page as `textContent` alone, and are shown without characters that
   change the direction of what stands around them. */

const $ = (id) => document.getElementById(id);
const grid = $("grid");

const CELL = 176; // about the width of a cell, pixels
const CAPTION = 62; // its height beside the image
const AHEAD = 4; // rows that are drawn beyond the visible ones
const LOADING = 60; // milliseconds that a cell is there before its image is asked for

const state = {
  build: null,
  names: new Map(), // category_id to name
  ids: [], // labels in their order
  more: 0, // labels that the list leaves off
  known: new Map(), // label to what is known of it
  asked: new Set(), // numbers of pages of the list that were asked for
  at: 0, // the label that keys are for, by its place in the list
  like: null, // the label that the list is like
  undo: [], // numbers of decisions, the last one last
  list: 0, // of lists that were asked for: late answers to others are dropped
};

function shown(text) {
  const line = text
    .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "")
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ");
  return line.length > 160 ? `${line.slice(0, 160)}…` : line;
}

const isolated = (text) => `\u2068${shown(text)}\u2069`;
const number = (value) => value.toLocaleString("en-GB");

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Requests

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("zutis review does not answer: has it ended?");
  }
  const content = await answer.json().catch(() => ({ error: "The answer can't be read." }));
  if (!answer.ok) throw new Error(content.error || `Status ${answer.status}`);
  return content;
}

function tell(error) {
  $("error").textContent = error ? shown(error.message) : "";
  $("error").hidden = !error;
}

async function trying(act) {
  try {
    const result = await act();
    tell(null);
    return result;
  } catch (error) {
    tell(error);
    return undefined;
  }
}

// The list

async function load({ keep } = {}) {
  const list = ++state.list;
  const query = new URLSearchParams({
    category: $("category").value || "0",
    order: $("order").value,
    show: $("show").value,
  });
  if (state.like !== null) query.set("like", state.like);
  else if ($("text").value.trim()) query.set("text", $("text").value.trim());
  grid.setAttribute("aria-busy", "true");
  if (query.has("text")) $("shown").textContent = "Searching … the first search loads the network.";
  const found = await trying(() => ask(`list?${query}`));
  if (list !== state.list) return;
  grid.removeAttribute("aria-busy");
  if (!found) {
    showWhat();
    return;
  }
  state.ids = found.labels;
  state.more = found.more;
  state.known.clear();
  state.asked.clear();
  state.at = Math.max(0, keep === undefined ? 0 : found.labels.indexOf(keep));
  showCounts(found.counts);
  showWhat();
  layOut();
  grid.scrollTop = 0;
  goTo(state.at);
}

function showWhat() {
  const what = state.like !== null ? "most like this label" : $("text").value.trim() ? "found" : "";
  const more = state.more ? ` Another ${number(state.more)} are not in this list: choose a category.` : "";
  const sample = state.build.sample
    ? `A random sample, up to ${number(state.build.sample)} of each category: look at all of it, and the share of right labels is an estimate for all labels. `
    : "";
  $("shown").textContent = `${sample}${number(state.ids.length)} labels${what ? `, ${what}` : ""}.${more}`;
}

function showCounts(counts) {
  $("count").textContent = `${number(counts.looked_at)} of ${number(counts.labels)} looked at${precision(counts)}`;
  $("progress").value = counts.labels ? counts.looked_at / counts.labels : 0;
  const rows = new Map(counts.categories.map((row) => [String(row.category_id), row]));
  for (const option of $("category").options) {
    const row = rows.get(option.value);
    if (!row) continue;
    const text = `${isolated(state.names.get(row.category_id))} (${number(row.looked_at)} of ${number(row.labels)})`;
    if (option.textContent !== text) option.textContent = text;
  }
}

function precision(counts) {
  const row = counts.categories.find((each) => String(each.category_id) === $("category").value);
  if (!row || row.share === undefined) return "";
  const percent = (share) => `${Math.round(100 * share)}`;
  return `, ${percent(row.share)} % right (${percent(row.low)} to ${percent(row.high)} %) of ${number(row.looked_at)}`;
}

// The grid: only cells near the visible ones exist

const cells = new Map(); // place in the list to element
const all = element("div", "all");
let columns = 1, width = CELL, height = CELL + CAPTION, waiting = 0;

function layOut() {
  const room = grid.clientWidth;
  columns = Math.max(2, Math.floor(room / CELL));
  width = Math.floor(room / columns);
  height = width - 16 + CAPTION;
  all.style.height = `${Math.ceil(state.ids.length / columns) * height}px`;
  for (const cell of cells.values()) drop(cell);
  cells.clear();
  if (state.ids.length) grid.replaceChildren(all);
  else grid.replaceChildren(element("p", "nothing", "There is no such label."));
  render();
}

function render() {
  if (!state.ids.length) return;
  const first = Math.max(0, Math.floor(grid.scrollTop / height) - AHEAD) * columns;
  const rows = Math.ceil(grid.clientHeight / height) + 2 * AHEAD + 1;
  const end = Math.min(state.ids.length, first + rows * columns);
  for (const [place, cell] of cells) {
    if (place < first || place >= end) {
      drop(cell);
      cells.delete(place);
    }
  }
  for (let place = first; place < end; place++) {
    if (!cells.has(place)) {
      const cell = newCell(place);
      cells.set(place, cell);
      all.append(cell);
    }
  }
  if (end > first) askFor(first, end);
  if (!waiting) waiting = setTimeout(loadImages, LOADING);
}

function drop(cell) {
  // A request for an image that nobody sees any more would hold up those for visible ones.
  const image = cell.querySelector("img");
  if (image) {
    image.onerror = null;
    image.removeAttribute("src");
  }
  cell.remove();
}

function newCell(place) {
  const cell = element("div", "cell");
  cell.id = `label-${place}`;
  cell.setAttribute("role", "option");
  cell.setAttribute("aria-posinset", place + 1);
  cell.setAttribute("aria-setsize", state.ids.length);
  cell.style.width = `${width}px`;
  cell.style.height = `${height}px`;
  cell.style.transform = `translate(${(place % columns) * width}px, ${Math.floor(place / columns) * height}px)`;
  const frame = element("span", "frame");
  frame.style.height = `${width - 16}px`;
  cell.append(frame, element("p", "what"), element("p", "state"));
  describe(cell, place);
  return cell;
}

function loadImages() {
  waiting = 0;
  for (const [place, cell] of cells) {
    const frame = cell.firstChild;
    if (frame.firstChild) continue;
    const image = element("img");
    image.alt = "";
    image.decoding = "async";
    image.onerror = () => cell.classList.add("missing");
    image.src = `thumbnail?id=${state.ids[place]}`;
    frame.append(image);
  }
}

function askFor(first, end) {
  const size = state.build.page;
  for (let page = Math.floor(first / size); page * size < end; page++) {
    if (state.asked.has(page)) continue;
    state.asked.add(page);
    const list = state.list;
    const ids = state.ids.slice(page * size, (page + 1) * size);
    trying(() => ask(`labels?ids=${ids.join(",")}`)).then((labels) => {
      if (list !== state.list) return;
      if (!labels) state.asked.delete(page);
      else for (const label of labels) learn(label);
    });
  }
}

function learn(label) {
  state.known.set(label.id, label);
  for (const [place, cell] of cells) {
    if (state.ids[place] === label.id) describe(cell, place);
  }
}

const STATES = { accepted: "accepted", rejected: "rejected", renamed: "now", redrawn: "corrected mask", several: "several" };

function describe(cell, place) {
  const label = state.known.get(state.ids[place]);
  cell.classList.toggle("at", place === state.at);
  cell.setAttribute("aria-selected", place === state.at);
  if (!label) return;
  const [, what, said] = cell.children;
  what.replaceChildren(bdi(state.names.get(label.category_id)));
  cell.dataset.state = label.state;
  said.textContent = STATES[label.state] || "";
  if (label.state === "renamed") said.append(" ", bdi(label.to));
  if (!label.state) said.append(element("span", "", facts(label)));
}

function facts(label) {
  if (label.quality !== null) return `quality ${label.quality.toFixed(2)}`;
  return label.rank ? `rank ${number(label.rank)}` : "";
}

function bdi(text) {
  const made = element("bdi", "", shown(text));
  made.title = shown(text);
  return made;
}

function goTo(place) {
  if (!state.ids.length) return;
  const before = cells.get(state.at);
  state.at = Math.min(state.ids.length - 1, Math.max(0, place));
  if (before) describe(before, Number(before.id.slice(6)));
  const top = Math.floor(state.at / columns) * height;
  if (top < grid.scrollTop) grid.scrollTop = top;
  if (top + height > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + height - grid.clientHeight;
  render();
  const cell = cells.get(state.at);
  if (cell) {
    describe(cell, state.at);
    grid.setAttribute("aria-activedescendant", cell.id);
  }
  if ($("large").open) showLarge();
}

// Decisions

let deciding = Promise.resolve();

function decide(verdict, to = "") {
  const label = state.ids[state.at];
  if (label === undefined) return;
  goTo(state.at + 1);
  // One after the other: their order is the order of the keys.
  deciding = deciding.then(() => trying(async () => {
    const done = await ask("decide", { label, verdict, to });
    state.undo.push(done.number);
    after(done);
  }));
}

function undo() {
  deciding = deciding.then(() => trying(async () => {
    if (!state.undo.length) return;
    const done = await ask("undo", { number: state.undo.pop() });
    after(done);
    const place = state.ids.indexOf(done.label.id);
    if (place >= 0) goTo(place);
  })).finally(() => { $("undo").disabled = !state.undo.length; });
}

function after(done) {
  learn(done.label);
  showCounts(done.counts);
  $("undo").disabled = !state.undo.length;
  if ($("large").open) showLarge();
}

// Another category

let offered = [], marked = 0;

function openNaming() {
  const label = state.known.get(state.ids[state.at]);
  if (!label) return;
  $("own").textContent = shown(state.names.get(label.category_id));
  $("to").value = "";
  offer();
  $("naming").showModal();
  $("to").focus();
}

function offer() {
  const own = state.names.get(state.known.get(state.ids[state.at]).category_id);
  const typed = $("to").value.trim().toLowerCase();
  const others = state.build.vocabulary.map((each) => each.name).filter((name) => name !== own);
  const fits = others.filter((name) => name.toLowerCase().includes(typed));
  const starts = (name) => (name.toLowerCase().startsWith(typed) ? 0 : 1);
  offered = fits.sort((a, b) => starts(a) - starts(b)).slice(0, 10).map((name) => ({ name, isNew: false }));
  if (typed && !state.build.vocabulary.some((each) => each.name.toLowerCase() === typed)) {
    offered.push({ name: $("to").value.trim(), isNew: true });
  }
  marked = 0;
  showOffer();
}

function showOffer() {
  $("names").replaceChildren(...offered.map((each, place) => {
    const item = element("li");
    item.append(bdi(each.name));
    if (each.isNew) item.append(" (not in the vocabulary: the label is left out)");
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", place === marked);
    item.onclick = () => { marked = place; rename(); };
    return item;
  }));
}

function rename() {
  $("naming").close();
  if (offered[marked]) decide("rename", offered[marked].name);
}

$("to").oninput = offer;
$("to").onkeydown = (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    marked = Math.min(offered.length - 1, Math.max(0, marked + step));
    showOffer();
    event.preventDefault();
  } else if (event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    rename();
  }
};

// In large

let withMask = true;

function showLarge() {
  const id = state.ids[state.at], label = state.known.get(id);
  if (id === undefined) return;
  $("large-image").src = `image?id=${id}&mask=${withMask ? 1 : 0}&state=${label ? label.state : ""}`;
  $("large-title").replaceChildren();
  if (label) {
    $("large-title").append(bdi(state.names.get(label.category_id)));
    $("large-note").textContent = [
      facts(label), STATES[label.state] || "undecided",
      label.to && label.state === "renamed" ? isolated(label.to) : "",
      label.who ? `by ${isolated(label.who)}` : "",
    ].filter(Boolean).join(", ");
  }
  if (!$("large").open) $("large").showModal();
}

// Keys

// Whoever has scrolled away from a label is shown it first: nobody decides on what they don't see.
const onSight = (act) => () => {
  const top = Math.floor(state.at / columns) * height, middle = top + height / 2;
  const isSeen = middle > grid.scrollTop && middle < grid.scrollTop + grid.clientHeight;
  if (isSeen || $("large").open) act();
  else goTo(state.at);
};

const KEYS = {
  a: onSight(() => decide("accept")),
  r: onSight(() => decide("reject")),
  s: onSight(() => decide("several")),
  c: onSight(openNaming),
  u: undo,
  l: onSight(() => search(state.ids[state.at])),
  m: () => { if ($("large").open) { withMask = !withMask; showLarge(); } },
  Enter: () => ($("large").open ? $("large").close() : showLarge()),
  "/": () => { $("large").close(); $("text").focus(); $("text").select(); },
  "?": () => $("keys").showModal(),
  Escape: () => { if (isSearch()) endSearch(); },
  ArrowRight: () => goTo(state.at + 1),
  ArrowLeft: () => goTo(state.at - 1),
  ArrowDown: () => goTo(state.at + columns),
  ArrowUp: () => goTo(state.at - columns),
  PageDown: () => goTo(state.at + columns * Math.max(1, Math.floor(grid.clientHeight / height))),
  PageUp: () => goTo(state.at - columns * Math.max(1, Math.floor(grid.clientHeight / height))),
  Home: () => goTo(0),
  End: () => goTo(state.ids.length - 1),
};

function search(label) {
  if (label === undefined) return;
  $("large").close();
  state.like = label;
  load();
}

const isSearch = () => state.like !== null || $("text").value !== "";

function endSearch() {
  state.like = null;
  $("text").value = "";
  load({ keep: state.ids[state.at] });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const inField = event.target.closest("input, select, #naming, #keys");
  const onButton = event.target.closest("button") && event.key === "Enter";
  if (inField || onButton || !(event.key in KEYS)) return;
  if (event.key === "Escape" && $("large").open) return; // the browser closes it
  event.preventDefault();
  KEYS[event.key]();
});

for (const button of document.querySelectorAll("footer button")) {
  button.onclick = () => { KEYS[button.dataset.key](); if (!document.querySelector("dialog[open]")) grid.focus({ preventScroll: true }); };
}
$("undo").onclick = undo;
$("help").onclick = KEYS["?"];
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  dialog.onclose = () => grid.focus({ preventScroll: true });
}

all.onclick = (event) => {
  const cell = event.target.closest(".cell");
  if (!cell) return;
  grid.focus({ preventScroll: true });
  goTo(Number(cell.id.slice(6)));
};
all.ondblclick = showLarge;

$("choice").onsubmit = (event) => {
  event.preventDefault();
  state.like = null;
  load();
  grid.focus({ preventScroll: true });
};
$("text").onkeydown = (event) => { if (event.key === "Escape") { event.preventDefault(); endSearch(); grid.focus({ preventScroll: true }); } };
for (const id of ["category", "order", "show"]) $(id).onchange = () => load();

grid.addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
new ResizeObserver(() => {
  if (!state.build) return;
  layOut();
  goTo(state.at);
}).observe(grid);

// The beginning

function option(value, text) {
  const made = element("option", "", text);
  made.value = value;
  return made;
}

async function begin() {
  const build = await trying(() => ask("build"));
  if (!build) return;
  state.build = build;
  state.names = new Map(build.vocabulary.map((each) => [each.category_id, each.name]));
  document.title = `${shown(build.name)}: review`;
  $("name").textContent = shown(build.name);
  $("name").title = `${shown(build.key)}, decisions go to ${shown(build.file)}`;
  $("category").replaceChildren(
    option("0", "all"),
    ...build.counts.categories.map((row) => option(String(row.category_id), isolated(state.names.get(row.category_id)))),
  );
  if (build.sample) $("order").replaceChildren(option("random", "as drawn"));
  if (build.untrained) {
    $("warning").textContent = "Made with untrained weights: a trial of the machinery. The labels mean nothing.";
    $("warning").hidden = false;
  }
  grid.focus({ preventScroll: true });
  await load();
  document.body.dataset.ready = "yes";
}

begin();
