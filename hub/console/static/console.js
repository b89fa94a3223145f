// What every page loads: theme, times, copy buttons, confirmations, the palette, and the one socket.
//
// Rules: the server renders; the socket says what has changed. An event `name` from /console becomes
// a DOM event `jl:name` on <body>, and whatever shows it asks the server again
// (hx-trigger="jl:name from:body throttle:1s"). Topics stand in `data-topics` of <main>. Once they
// are watched, after each connect, `jl:reconnected` is fired, so that nothing stays stale.

const root = document.documentElement;

// -- theme -------------------------------------------------------------------------------------

function applyTheme(choice) {
  if (choice === "auto") delete root.dataset.theme;
  else root.dataset.theme = choice;
  for (const button of document.querySelectorAll("[data-theme-choice]"))
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
}

// The hub writes it into the page, so that none is painted in the other colours first.
function chooseTheme(choice) {
  document.cookie = `theme=${choice}; path=/; max-age=31536000; samesite=lax`;
  applyTheme(choice);
}

// -- times: the viewer's zone, exact UTC on hover ---------------------------------------------------

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "narrow" });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const STEPS = [[60, "second"], [60, "minute"], [24, "hour"], [30, "day"], [12, "month"], [Infinity, "year"]];

function ago(ms) {
  let amount = (ms - Date.now()) / 1000;
  for (const [size, unit] of STEPS) {
    if (Math.abs(amount) < size) return relative.format(Math.round(amount), unit);
    amount /= size;
  }
  return "";
}

export function showTimes(scope = document) {
  for (const element of scope.querySelectorAll("time[datetime]")) {
    const ms = Date.parse(element.dateTime);
    if (Number.isNaN(ms)) continue;
    element.title = `${absolute.format(ms)}\n${element.dateTime}`;
    element.textContent = element.dataset.as === "exact" ? absolute.format(ms) : ago(ms);
  }
}

function showChoices() {
  for (const option of document.querySelectorAll("option[data-time]")) {
    option.title = option.dataset.time;
    option.textContent = absolute.format(Date.parse(option.dataset.time)) + (option.dataset.note ?? "");
  }
}

// Where one is stands in sight, on a phone too.
function showHere() {
  for (const here of document.querySelectorAll(".nav [aria-current], .tabs [aria-current]"))
    here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft - 24;
}

// -- small things -------------------------------------------------------------------------------

export function toast(text, kind = "info") {
  const box = document.createElement("div");
  box.className = `notice ${kind}`;
  box.setAttribute("role", kind === "bad" ? "alert" : "status");
  box.textContent = text;
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), kind === "bad" ? 12000 : 5000);
}

async function copy(button) {
  const from = button.dataset.copyFrom && document.querySelector(button.dataset.copyFrom);
  await navigator.clipboard.writeText(from ? from.textContent.trim() : button.dataset.copy);
  toast("Copied");
}

export function confirmed(question, verb, act) {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("[data-question]").textContent = question;
  dialog.querySelector("[value=yes]").textContent = verb;
  dialog.returnValue = "";
  dialog.addEventListener("close", () => act(dialog.returnValue === "yes"), { once: true });
  dialog.showModal();
}

// -- the palette ----------------------------------------------------------------------------------

function openPalette() {
  const dialog = document.getElementById("palette");
  if (!dialog || dialog.open) return;
  dialog.showModal();
  const input = dialog.querySelector("input");
  input.value = "";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.focus();
}

function movePalette(dialog, step) {
  const options = [...dialog.querySelectorAll("[role=option]")];
  if (!options.length) return;
  const at = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
  const next = options[(at + step + options.length) % options.length];
  for (const option of options) option.setAttribute("aria-selected", String(option === next));
  next.scrollIntoView({ block: "nearest" });
  dialog.querySelector("input").setAttribute("aria-activedescendant", next.id);
}

function onPaletteKey(event) {
  const dialog = document.getElementById("palette");
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    movePalette(dialog, event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter") {
    event.preventDefault();
    const chosen = dialog.querySelector("[aria-selected=true]") ?? dialog.querySelector("[role=option]");
    if (chosen?.dataset.href) location.href = chosen.dataset.href;
  }
}

// -- the socket -------------------------------------------------------------------------------------

export let socket = null; // where somebody is logged in, once the page has been painted

let watched = new Set();

function topics() {
  const told = [...document.querySelectorAll("[data-topics]")].map((element) => element.dataset.topics);
  return new Set(told.join(" ").split(" ").filter(Boolean));
}

// A list that was swapped shows other machines: theirs is what is told from then on.
async function watch() {
  const before = watched;
  watched = topics();
  for (const topic of before.difference(watched)) socket.emit("unwatch", { topic });
  await Promise.all([...watched.difference(before)].map((topic) => socket.emitWithAck("watch", { topic })));
}

export function fire(name, detail) {
  document.body.dispatchEvent(new CustomEvent(`jl:${name}`, { detail, bubbles: true }));
}

// What is told at once and written a moment later: whoever asks again shall read it.
const WRITTEN_MS = { presence: 700, stats: 1500 };

// A hub that stops closes its sockets, too: a reload before it is back would lose the page.
async function reloadOnceThere() {
  const isThere = () => fetch("/readyz", { cache: "no-store" }).then((reply) => reply.ok, () => false);
  while (!(await isThere())) await new Promise((resume) => setTimeout(resume, 1000));
  location.reload();
}

// What a page shows comes before what keeps it true. A page that nobody sees is not painted.
const painted = () => new Promise((resume) => {
  setTimeout(resume, document.hidden ? 0 : 500);
  requestAnimationFrame(() => setTimeout(resume));
});

async function live() {
  await painted();
  const { io } = await import("./vendor/socket.io.js");
  socket = io("/console", { transports: ["websocket"], path: "/socket.io" });
  listen();
}

function listen() {
  const bar = document.getElementById("offline");
  socket.on("connect", async () => {
    bar.hidden = true;
    watched = new Set();
    await watch();
    fire("reconnected"); // what changed between the page's rendering and now was told to nobody
  });
  socket.on("disconnect", (reason) => {
    bar.hidden = false;
    if (reason === "io server disconnect") reloadOnceThere(); // the session has ended, or the role changed
  });
  socket.on("connect_error", () => { bar.hidden = false; });
  socket.onAny((name, payload) => setTimeout(fire, WRITTEN_MS[name] ?? 0, name, payload));
  socket.on("audit", ({ families }) => { for (const family of families) fire(`audit-${family}`); });
}

// -- tabs inside a page ------------------------------------------------------------------------------

function choose(tab) {
  for (const one of tab.closest("[role=tablist]").querySelectorAll("[role=tab]")) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    document.getElementById(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  tab.focus();
}

function onTabKey(event, tab) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
  choose(all[(all.indexOf(tab) + step + all.length) % all.length]);
}

// -- chosen rows ------------------------------------------------------------------------------------

function countChosen() {
  const bulk = document.querySelector("[data-bulk]");
  if (!bulk) return;
  const chosen = document.querySelectorAll('input[form="bulk"]:checked').length;
  bulk.hidden = chosen === 0;
  bulk.querySelector("[data-bulk-count]").textContent = `${chosen} chosen`;
}

// -- wiring -----------------------------------------------------------------------------------------

applyTheme(root.dataset.theme ?? "auto");
showTimes();
showChoices();
showHere();
addEventListener("resize", showHere);
setInterval(showTimes, 15000);

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from], [data-theme-choice], [data-dialog], [data-close], [data-palette]");
  if (!button) return;
  if (button.dataset.themeChoice) chooseTheme(button.dataset.themeChoice);
  else if (button.dataset.dialog) document.getElementById(button.dataset.dialog).showModal();
  else if ("close" in button.dataset) button.closest("dialog").close();
  else if ("palette" in button.dataset) openPalette();
  else copy(button).catch(() => toast("The browser did not allow copying", "bad"));
});

document.addEventListener("change", countChosen);
document.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) choose(tab);
  const option = event.target.closest("[role=option][data-href]");
  if (option) location.href = option.dataset.href;
});
document.addEventListener("keydown", (event) => {
  if (event.target.matches("[role=tab]")) onTabKey(event, event.target);
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && !event.target.closest(".xterm")) {
    event.preventDefault();
    openPalette();
  } else if (event.key === "/" && !event.target.closest("input, textarea, select, .xterm")) {
    const search = document.querySelector("[data-search]");
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.target.closest("#palette")) onPaletteKey(event);
});

// What cannot be taken back asks first, and says what will happen (`data-confirm` on the button).
document.addEventListener("submit", (event) => {
  const { submitter, target } = event;
  if (!submitter?.dataset.confirm || submitter.dataset.sure !== undefined) return;
  event.preventDefault();
  confirmed(submitter.dataset.confirm, submitter.textContent.trim(), (yes) => {
    if (!yes) return;
    submitter.dataset.sure = "";
    target.requestSubmit(submitter);
    delete submitter.dataset.sure;
  });
}, true);

// What had to wait for another's answer asks what its element says by then.
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement === ctx.target && ctx.sourceElement.hasAttribute("hx-get"))
    ctx.request.action = ctx.sourceElement.getAttribute("hx-get");
});
document.addEventListener("htmx:after:swap", () => {
  showTimes();
  showChoices();
  countChosen();
  if (socket?.connected) watch();
});
document.addEventListener("htmx:confirm", (event) => {
  const question = event.detail.ctx?.confirm ?? event.target.getAttribute?.("hx-confirm");
  if (!question) return;
  event.preventDefault();
  confirmed(question, event.target.textContent?.trim() ?? "Do it", (yes) => (yes ? event.detail.issueRequest() : event.detail.dropRequest()));
});
document.addEventListener("htmx:error", ({ detail }) => {
  const isAsked = detail.ctx?.request?.method !== "GET"; // by somebody; what a page reads again, the bar tells of
  if (isAsked || document.getElementById("offline")?.hidden) toast("The hub did not answer; try again", "bad");
});
document.body.addEventListener("toast", (event) => toast(event.detail.text ?? event.detail.value, event.detail.kind));

// Behind everything else: what imports this module goes on when there is a socket.
if (document.body.dataset.live !== undefined) await live();
