// One terminal: xterm.js bound to one session by the events of /console.
//
// Rules: output is written in order of its offsets, and `shell_ack` tells the hub what has been
// shown, which is where the agent's credit comes from. The address names the session, so a reload
// attaches again and is shown the scrollback. Nothing that output asks for is answered, save the
// cursor's position and the terminal's kind; the clipboard is never touched by output; links open
// http and https alone, after a click. A paste of several lines asks first.
// Source: docs/reference/console-events.rst.

import { confirmed, fire, socket, toast } from "./console.js";
import { FitAddon } from "./vendor/xterm-fit.js";
import { SearchAddon } from "./vendor/xterm-search.js";
import { WebLinksAddon } from "./vendor/xterm-web-links.js";
import { Terminal } from "./vendor/xterm.js";

const SCROLLBACK_LINES = 10000;
const ACK_STEP_BYTES = 16 * 1024;

const decode = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const encoder = new TextEncoder();

function hush(term) {
  const swallow = () => true;
  for (const code of [4, 10, 11, 12, 52]) term.parser.registerOscHandler(code, swallow);
  term.parser.registerDcsHandler({ intermediates: "$", final: "q" }, swallow);
  term.parser.registerDcsHandler({ intermediates: "+", final: "q" }, swallow);
  term.parser.registerCsiHandler({ prefix: ">", final: "c" }, swallow);
  term.parser.registerCsiHandler({ prefix: "=", final: "c" }, swallow);
  term.parser.registerCsiHandler({ final: "t" }, swallow);
  term.parser.registerCsiHandler({ intermediates: "$", final: "p" }, swallow);
  term.parser.registerCsiHandler({ prefix: "?", intermediates: "$", final: "p" }, swallow);
  term.parser.registerCsiHandler({ prefix: ">", final: "q" }, swallow);
}

function openLink(event, uri) {
  if (/^https?:\/\//.test(uri)) window.open(uri, "_blank", "noopener,noreferrer");
  event.preventDefault();
}

export class Screen {
  constructor(element) {
    this.element = element;
    this.assetId = element.dataset.asset;
    this.session = element.dataset.session || null;
    this.readOnly = element.dataset.observe !== undefined;
    this.offset = null;
    this.acked = 0;
    this.ended = false;
    this.early = [];
    this.term = new Terminal({
      allowProposedApi: false, cursorBlink: true, fontFamily: getComputedStyle(element).getPropertyValue("--mono"),
      fontSize: 14, scrollback: SCROLLBACK_LINES, disableStdin: this.readOnly, screenReaderMode: true,
      linkHandler: { activate: openLink },
      theme: { background: "#0b0e13", foreground: "#e7eaf0", cursor: "#7aa9ff" },
    });
    this.fit = new FitAddon();
    this.search = new SearchAddon();
    this.term.loadAddon(this.fit);
    this.term.loadAddon(this.search);
    this.term.loadAddon(new WebLinksAddon(openLink));
    hush(this.term);
    this.term.open(element);
    this.fit.fit();
    this.bind();
  }

  bind() {
    this.term.onData((data) => this.send(data));
    this.term.onBinary((data) => this.send(data));
    this.term.onResize(({ cols, rows }) => this.session && !this.readOnly && this.ask("shell_resize", { session: this.session, cols, rows }));
    this.term.onSelectionChange(() => {
      const text = this.term.getSelection();
      if (text) navigator.clipboard?.writeText(text).catch(() => {});
    });
    new ResizeObserver(() => this.fit.fit()).observe(this.element);
    this.element.addEventListener("paste", (event) => this.guardPaste(event), true);
    const on = (name, act) => socket.on(name, (payload) => {
      if (this.session === null) this.early.push([payload, act]); // before the reply that names it
      else if (payload.session === this.session) act(payload);
    });
    on("shell_output", (payload) => this.show(payload));
    on("shell_gap", ({ from, to }) => this.skip(from, to));
    on("shell_closed", (payload) => this.onClosed(payload));
    on("shell_link", ({ up }) => this.tell(up ? "open" : "agent offline", up ? "" : "The agent is not linked; the session goes on there."));
    on("shell_resized", ({ cols, rows }) => this.readOnly && this.term.resize(cols, rows));
    on("shell_watched", ({ watching }) => this.tellWatched(watching));
    on("shell_detached", ({ reason }) => this.tell("detached", `Somebody else writes here now (${reason}).`));
    socket.on("connect", () => this.attach());
    socket.on("disconnect", () => this.tell("reconnecting", "The hub is out of reach; trying again…"));
    if (socket.connected) this.attach();
  }

  async ask(event, payload) {
    const reply = await socket.timeout(20000).emitWithAck(event, payload).catch(() => ({ error: { code: "timeout", detail: "the hub did not answer" } }));
    return reply ?? {};
  }

  async attach() {
    const reply = this.session
      ? await this.ask(this.readOnly ? "shell_observe" : "shell_attach", { session: this.session, offset: this.offset, take_over: true })
      : await this.ask("shell_open", { asset_id: this.assetId, cols: this.term.cols, rows: this.term.rows });
    if (reply.error) {
      this.tell("ended", reply.error.detail || reply.error.code);
      return;
    }
    if (!this.session) this.name(reply.session);
    if (this.offset === null) this.offset = this.acked = reply.offset;
    this.tell(reply.up === false ? "agent offline" : "open", "");
    this.tellWatched(reply.watching ?? 0);
    if (this.readOnly && reply.cols) this.term.resize(reply.cols, reply.rows);
    else {
      this.fit.fit();
      this.ask("shell_resize", { session: this.session, cols: this.term.cols, rows: this.term.rows });
    }
    this.element.dataset.attached = "";
    this.term.focus();
  }

  name(session) {
    this.session = session;
    this.element.dataset.session = session;
    history.replaceState(null, "", `/agents/${this.assetId}/shell/${session}`);
    const link = document.getElementById("shell-link");
    link.dataset.copy = `${location.origin}/agents/${this.assetId}/shell/${session}?observe=1`;
    link.hidden = false;
    for (const [payload, act] of this.early) if (payload.session === session) act(payload);
    this.early = [];
    fire("sessions", {});
  }

  send(data) {
    if (!this.readOnly && this.session && !this.ended) socket.emit("shell_input", { session: this.session, data });
  }

  show({ offset, data, encoding }) {
    const bytes = encoding === "base64" ? decode(data) : encoder.encode(data);
    const seen = this.offset === null ? 0 : this.offset - offset;
    if (seen >= bytes.length && seen > 0) return;
    this.offset = offset + bytes.length;
    const end = this.offset;
    this.term.write(seen > 0 ? bytes.subarray(seen) : bytes, () => this.shown(end));
  }

  shown(offset) {
    if (offset - this.acked < ACK_STEP_BYTES && offset !== this.offset) return;
    this.acked = offset;
    socket.emit("shell_ack", { session: this.session, offset });
  }

  skip(from, to) {
    this.offset = to;
    this.term.write(`\r\n\x1b[33m[${to - from} bytes of output are lost]\x1b[0m\r\n`, () => this.shown(to));
  }

  onClosed({ reason, code, signal, detail }) {
    this.ended = true;
    const how = [reason, code !== undefined && code !== null ? `code ${code}` : "", signal ? `signal ${signal}` : "", detail ?? ""].filter(Boolean).join(", ");
    this.term.write(`\r\n\x1b[2m[session ended: ${how}]\x1b[0m\r\n`);
    this.tell("ended", `The session has ended: ${how}.`);
    fire("sessions", {});
  }

  guardPaste(event) {
    const text = event.clipboardData?.getData("text") ?? "";
    event.preventDefault();
    event.stopPropagation();
    const clean = text.replace(/[\x1b\x9b]/g, ""); // what could end a bracketed paste, or drive the terminal
    const lines = clean.split(/\r\n|\r|\n/).length;
    const paste = () => { this.term.paste(clean); this.term.focus(); };
    if (lines < 2) return paste();
    confirmed(`${lines} lines go to the terminal; each but the last is run at once.`, "Paste", (yes) => yes && paste());
  }

  tellWatched(count) {
    const box = document.getElementById("shell-watched");
    box.hidden = count === 0;
    box.textContent = `${count} watching`;
    fire("sessions", {});
  }

  tell(word, sentence) {
    const box = document.getElementById("shell-state");
    box.dataset.state = word;
    box.textContent = word;
    box.className = `state ${word === "open" ? "ok" : word === "ended" ? "off" : "warn"}`;
    document.getElementById("shell-sentence").textContent = sentence;
    if (word === "ended" && sentence) toast(sentence);
  }
}

const element = document.querySelector("[data-terminal]");
if (element) {
  const screen = new Screen(element);
  element.screen = screen;
  const find = document.getElementById("shell-find");
  find?.addEventListener("input", () => screen.search.findNext(find.value, { incremental: true }));
  find?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (event.shiftKey) screen.search.findPrevious(find.value);
    else screen.search.findNext(find.value);
  });
  document.addEventListener("htmx:after:swap", () => {
    for (const tab of document.querySelectorAll("#mine a"))
      if (screen.session && tab.href.endsWith(screen.session)) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
  });
  const end = document.getElementById("shell-end");
  end?.addEventListener("click", () => confirmed("Every process of this session ends, whoever watches. Its recording stays.", end.textContent, (yes) => yes && screen.ask("shell_close", { session: screen.session })));
}
