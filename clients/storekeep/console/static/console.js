// Makes pages nicer where scripts run: local times, keyboard shortcuts, copying. No page needs it.
"use strict";

const toMinute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const toSecond = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
for (const element of document.querySelectorAll("time[datetime]")) {
  const format = "seconds" in element.dataset ? toSecond : toMinute;
  element.textContent = format.format(new Date(element.dateTime));
}

// In a narrow window each row of a table is a card: each cell needs the name of its column.
function labelCells(row, head) {
  for (const [index, cell] of [...row.cells].entries()) cell.dataset.label = head.cells[index]?.textContent ?? "";
}

for (const table of document.querySelectorAll(".list, .card table:not(.items, .rows)")) {
  if (!table.tHead) continue;
  table.classList.add("stacked");
  for (const body of table.tBodies) for (const row of body.rows) labelCells(row, table.tHead.rows[0]);
}

// Fields of times, and of days, are in the zone of the browser too, but the form and the address have UTC.
function showZone(input) {
  const label = input.labels[0]?.querySelector("[data-zone]");
  if (label) label.textContent = toMinute.resolvedOptions().timeZone.replaceAll("_", " ");
}

function toFieldText(moment) {
  const pad = (number, length = 2) => String(number).padStart(length, "0");
  const day = [pad(moment.getFullYear(), 4), pad(moment.getMonth() + 1), pad(moment.getDate())].join("-");
  const seconds = moment.getSeconds() ? `:${pad(moment.getSeconds())}` : "";
  return `${day}T${pad(moment.getHours())}:${pad(moment.getMinutes())}${seconds}`;
}

// Send the moment that an input means instead of its text; the stored one, if nobody has changed it.
function sendMoment(input, shown, stored, convert) {
  input.form.addEventListener("formdata", ({ formData }) => {
    if (!input.value || !formData.has(input.name)) return;
    const text = input.value === shown ? stored : convert(input.value);
    if (text) formData.set(input.name, text);
  });
}

function toUtc(text) {
  const moment = new Date(text);
  return Number.isNaN(moment.getTime()) ? "" : moment.toISOString();
}

for (const input of document.querySelectorAll("input[type=datetime-local]")) {
  const stored = input.defaultValue;
  const shown = stored && toFieldText(new Date(`${stored}Z`));
  if (input.value === stored) input.value = shown;  // else the browser has restored what was typed
  showZone(input);
  sendMoment(input, shown, stored, (text) => toUtc(text).replace(/(:00)?\.\d+Z$/, ""));
}

for (const input of document.querySelectorAll("input[data-day-time]")) {
  const stored = input.dataset.moment;
  if (input.defaultValue && !stored) continue;  // the address has a day in UTC
  const shown = stored && toFieldText(new Date(stored)).slice(0, 10);
  if (input.value === input.defaultValue) input.value = shown;
  showZone(input);
  sendMoment(input, shown, stored, (text) => toUtc(`${text}T${input.dataset.dayTime}`).replace(/\.\d+/, ""));
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

// A field offers matches while one types: a combobox as ARIA describes it. Without scripts it is a plain field. A text
// area offers them for the line in which one types.
function offerMatches(input, number) {
  const isArea = input.tagName === "TEXTAREA";
  const list = document.createElement("ul");
  list.id = `matches-${number}`;
  list.className = "matches";
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Matches");
  const count = document.createElement("p");
  count.className = "hidden";
  count.setAttribute("role", "status");
  document.getElementById("main").append(list, count);
  const note = document.createElement("span");  // what the picked id stands for
  note.className = "fine picked";
  input.after(note);
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", list.id);
  if (!isArea) input.setAttribute("role", "combobox");

  let active = -1;
  let timer = 0;
  let waiting = null;

  const findRange = () => {
    if (!isArea) return [0, input.value.length];
    const end = input.value.indexOf("\n", input.selectionStart);
    return [input.value.lastIndexOf("\n", input.selectionStart - 1) + 1, end < 0 ? input.value.length : end];
  };
  const setOpen = (open) => {
    list.hidden = !open;
    if (!isArea) input.setAttribute("aria-expanded", String(open));
    activate(-1);
  };
  const activate = (index) => {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = index;
    const option = list.children[active];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) input.setAttribute("aria-activedescendant", option.id);
    else input.removeAttribute("aria-activedescendant");
  };
  const close = () => {
    clearTimeout(timer);
    waiting?.abort();
    setOpen(false);
  };
  const place = () => {
    const box = input.getBoundingClientRect();
    list.style.left = `${box.left + window.scrollX}px`;
    list.style.top = `${box.bottom + window.scrollY}px`;
    list.style.minWidth = `${box.width}px`;
  };
  const pick = (option) => {
    const [start, end] = findRange();
    input.setRangeText(option.dataset.value, start, end, "end");
    close();
    if (!isArea) note.textContent = option.dataset.text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const show = (matches) => {
    list.replaceChildren(...matches.map((match, index) => {
      const option = document.createElement("li");
      option.id = `${list.id}-${index}`;
      option.dataset.value = match.value;
      option.dataset.text = match.text;
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      const value = document.createElement("b");
      value.textContent = match.value;
      option.append(value, " ", match.text);
      option.addEventListener("click", () => pick(option));
      return option;
    }));
    count.textContent = matches.length === 1 ? "1 match" : `${matches.length} matches`;
    place();
    setOpen(matches.length > 0);
  };
  const ask = async () => {
    waiting?.abort();
    waiting = new AbortController();
    const text = input.value.slice(...findRange()).trim();
    if (!text) { close(); return; }
    const reply = await fetch(`${input.dataset.complete}?${new URLSearchParams({ q: text })}`, { signal: waiting.signal })
      .then((found) => (found.headers.get("content-type")?.startsWith("application/json") ? found.json() : []))
      .catch(() => null);  // a later text, or no connection
    if (reply && document.activeElement === input) show(reply);
  };

  input.addEventListener("input", (event) => {
    if (!event.isTrusted) return;
    note.textContent = "";
    clearTimeout(timer);
    timer = setTimeout(ask, 200);
  });
  input.addEventListener("blur", close);
  list.addEventListener("mousedown", (event) => event.preventDefault());  // the field keeps the focus
  window.addEventListener("scroll", () => { if (!list.hidden) place(); }, { passive: true });
  window.addEventListener("resize", () => { if (!list.hidden) place(); });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (list.hidden && event.key === "ArrowDown" && !isArea) ask();
    if (list.hidden) return;
    if (step) {
      const options = list.children.length;
      activate(active < 0 && step < 0 ? options - 1 : (active + step + options) % options);
    } else if (event.key === "Enter" && active >= 0) {
      pick(list.children[active]);
    } else if (event.key === "Escape") {
      close();
    } else {
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
  setOpen(false);
}
for (const [number, input] of [...document.querySelectorAll("[data-complete]")].entries()) offerMatches(input, number);

// A barcode scanner ends with Enter: go to the next field instead of sending the form.
for (const input of document.querySelectorAll("[data-next]")) {
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && input.value) {
      event.preventDefault();
      document.getElementById(input.dataset.next).focus();
    }
  });
}

// A file that is too large is not sent first.
for (const input of document.querySelectorAll("[data-bytes-max]")) {
  input.addEventListener("change", () => {
    const tooLarge = [...input.files].some((file) => file.size > Number(input.dataset.bytesMax));
    input.setCustomValidity(tooLarge ? "The file is too large. Use the command storekeep import, or split it." : "");
    input.reportValidity();
  });
}

// Two selects that must differ: neither offers what the other has.
for (const select of document.querySelectorAll("[data-differs]")) {
  const other = select.form.elements[select.dataset.differs];
  const update = () => {
    for (const option of select.options) option.disabled = option.value === other.value;
  };
  other.addEventListener("change", update);
  update();
}

// In a narrow window a long form of filters shows the first two, until one asks for the others or one of them is set.
for (const form of document.querySelectorAll(".filters")) {
  const others = [...form.querySelectorAll("label")].slice(2);
  if (!others.length || others.some((label) => label.control?.value)) continue;
  const more = document.createElement("button");
  more.type = "button";
  more.className = "quiet narrow";
  more.textContent = "More filters";
  more.addEventListener("click", () => { form.classList.remove("folded"); more.remove(); others[0].control?.focus(); });
  form.classList.add("folded");
  form.append(more);
}

// In a narrow window the navigation scrolls sideways: to the page that is open.
const current = document.querySelector(".side [aria-current]");
if (current) current.closest(".side").scrollLeft = current.offsetLeft - 48;

// A form is sent once, also by a double click. The server would not repeat its effect either. It is sent only while the
// server can be reached: otherwise the browser would show its own page, and forget what was typed. A server that accepts
// the connection but does not answer in time counts as not reached.
const REACH_TIMEOUT_MS = 5000;
function showUnreachable(form) {
  const notice = form.querySelector(".unreachable") ?? document.createElement("p");
  notice.className = "unreachable alarming";
  notice.setAttribute("role", "alert");
  notice.textContent = "The server can't be reached. Nothing was sent, and your input is still here. Try again.";
  form.append(notice);
}

for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", async (event) => {
    if (form.dataset.state === "reached") {
      form.dataset.state = "download" in form.dataset ? "" : "sent";  // a download leaves the page as it is
      return;
    }
    event.preventDefault();
    if (form.dataset.state) return;
    form.dataset.state = "asking";
    const reached = await fetch("/livez", { cache: "no-store", signal: AbortSignal.timeout(REACH_TIMEOUT_MS) })
      .then(() => true, () => false);
    form.dataset.state = reached ? "reached" : "";
    if (reached) form.requestSubmit(event.submitter);
    else showUnreachable(form);
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-state]")) delete form.dataset.state;
});

// Warn before unsaved input is lost.
let changed = false;
for (const form of document.querySelectorAll("form[method=post].stack")) {
  form.addEventListener("input", () => { changed = true; });
  form.addEventListener("submit", () => { if (form.dataset.state === "sent") changed = false; });
}
window.addEventListener("beforeunload", (event) => {
  if (changed) event.preventDefault();
});

const rows = [...document.querySelectorAll(".list tbody tr")];
let chosen = -1;
function choose(step) {
  if (!rows.length) return;
  rows[chosen]?.classList.remove("chosen");
  chosen = Math.min(Math.max(chosen + step, 0), rows.length - 1);
  rows[chosen].classList.add("chosen");
  rows[chosen].querySelector("a")?.focus();
}

let prefix = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog[open]")) return;
  const afterG = event.timeStamp - prefix < 1500 && prefix > 0;
  prefix = 0;
  if (afterG) {
    const link = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
    return;
  }
  if (event.key === "g") prefix = event.timeStamp;
  else if (event.key === "j") choose(1);
  else if (event.key === "k") choose(-1);
  else if (event.key === "?") document.getElementById("help")?.showModal();
  else if (event.key === "/") {
    const search = document.querySelector("[data-shortcut='/']");
    if (search) { event.preventDefault(); search.focus(); }
  }
});

// The sample basket of a promotion is priced anew a moment after a change. The button does it without scripts.
function fillRow(row, texts, tag = "td") {
  for (const [index, text] of texts.entries()) {
    const cell = document.createElement(index ? "td" : tag);
    cell.textContent = text;
    if (index) cell.className = "number";
    row.append(cell);
  }
  return row;
}

function showPreview(panel, result) {
  panel.replaceChildren();
  if (result.problem) {
    for (const text of result.problem) {
      const line = document.createElement("p");
      line.className = "alarming";
      line.textContent = text;
      panel.append(line);
    }
    return;
  }
  const verdict = document.createElement("p");
  verdict.className = "verdict";
  verdict.textContent = result.verdict;
  const table = document.createElement("table");
  fillRow(table.createTHead().insertRow(), ["Item", "Units", "Without", "With it"], "th");
  const body = table.createTBody();
  for (const texts of result.rows) fillRow(body.insertRow(), texts);
  const total = fillRow(table.createTFoot().insertRow(), ["Total", "", result.before, result.after], "th");
  total.className = "total";
  panel.append(verdict, table);
}

for (const basket of document.querySelectorAll("[data-preview]")) {
  const form = basket.closest("form");
  const panel = basket.querySelector(".preview");
  let timer = 0;
  let latest = 0;
  const refresh = async () => {
    const number = ++latest;
    const reply = await fetch(basket.dataset.preview, { method: "POST", body: new URLSearchParams(new FormData(form)) })
      .catch(() => null);
    if (!reply?.headers.get("content-type")?.startsWith("application/json")) return;
    const result = await reply.json();
    if (number === latest) showPreview(panel, result);
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, 400);
  });
  if (!panel.childElementCount && form.elements.etag) refresh();  // a new promotion has nothing to show yet
}

// A promotion shows, and sends, only the fields of its kind.
for (const select of document.querySelectorAll("select[name='action.kind']")) {
  const labels = [...select.form.querySelectorAll("[data-kinds]")];
  const update = () => {
    for (const label of labels) {
      label.hidden = !label.dataset.kinds.split(" ").includes(select.value);
      label.control.disabled = label.hidden;
    }
  };
  select.addEventListener("change", update);
  update();
}

// Live updates, while the page is visible. They never move what one reads: a bar says what there is.
for (const bar of document.querySelectorAll("[data-live]")) {
  let cursor = bar.dataset.cursor;
  let source = null;
  let tries = 0;
  const waiting = [];
  const feed = document.getElementById(bar.dataset.feed ?? "");
  const button = document.createElement("button");
  button.type = "button";
  bar.append(button);
  bar.setAttribute("role", "status");

  const show = () => {
    bar.hidden = !waiting.length;
    const count = waiting.length > 99 ? "99+" : waiting.length;
    button.textContent = feed ? `Show ${count} new` : "This has changed. Load it again";
  };
  button.addEventListener("click", () => {
    if (!feed) { location.reload(); return; }
    for (const item of waiting.splice(0)) feed.prepend(makeRow(item));
    while (feed.rows.length > 500) feed.deleteRow(-1);
    show();
  });

  const open = () => {
    if (source || document.hidden) return;
    const query = new URLSearchParams({ cursor, resource: bar.dataset.resource ?? "" });
    source = new EventSource(`${bar.dataset.live}?${query}`);
    source.addEventListener("message", (event) => {
      cursor = event.lastEventId;
      waiting.push(JSON.parse(event.data));
      if (waiting.length > 500) waiting.shift();
      show();
    });
    source.addEventListener("open", () => { tries = 0; });
    source.addEventListener("end", close);
    source.addEventListener("error", () => {
      if (source?.readyState !== EventSource.CLOSED) return;  // the browser connects again by itself
      close();
      if (tries++ < 10) setTimeout(open, 30_000 + Math.random() * 30_000);  // refused: too many, or signed out
    });
  };
  const close = () => { source?.close(); source = null; };
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });
  window.addEventListener("pagehide", close);
  open();
}

function makeRow(item) {
  const row = document.createElement("tr");
  const time = document.createElement("time");
  time.dateTime = item.time;
  time.title = item.time.replace("T", " ").replace("Z", " UTC");
  time.textContent = toSecond.format(new Date(item.time));
  row.insertCell().append(time);
  row.insertCell().textContent = item.type;
  const resource = row.insertCell();
  resource.className = "breaks";
  if (item.path) {
    const link = document.createElement("a");
    link.href = item.path;
    link.textContent = item.resource;
    resource.append(link);
  } else {
    resource.textContent = item.resource;
  }
  const actor = row.insertCell();
  actor.className = "nowrap";
  actor.textContent = item.actor;
  labelCells(row, document.getElementById("feed").closest("table").tHead.rows[0]);
  return row;
}
