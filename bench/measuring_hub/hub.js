"use strict";
/**
 * The server that every benchmarked agent talks to: it types, takes the times and counts.
 *
 * The same process, handlers and clock serve each agent, so that what differs is the agent. Driven
 * by JSON lines as the hub doubles of the tests are (options first, then commands; reports out);
 * times are CLOCK_MONOTONIC seconds. It looks at no signature: it listens on loopback, for minutes.
 */
const http = require("node:http");
const readline = require("node:readline");
const { Server } = require("socket.io");

const GRANT_BATCH = 16 * 1024;
// The window grows from 64 to 256 KiB where the link keeps it full (contract 1.7, `credit`): where
// a whole window comes in so little time that its round trip, not the link's rate, is what limits.
const WINDOW = 64 * 1024;
const WINDOW_MOST = 256 * 1024;
const WINDOW_FAST_S = 0.02;

const now = () => Number(process.hrtime.bigint()) / 1e9;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function report(kind, fields) {
  process.stdout.write(JSON.stringify({ report: kind, at: now(), ...fields }) + "\n");
}

/** What one session's output has been, and who waits for more of it. */
class Session {
  bytes = 0;
  owed = 0;
  window = WINDOW;
  windowBytes = 0;
  windowSince = 0;
  firstAt = null;
  lastAt = null;
  closed = null;
  waiting = null;

  /** Resolve once `isReached` holds of this session; it is asked at each output. */
  until(isReached) {
    if (isReached(this)) return Promise.resolve(this);
    return new Promise((resolve) => {
      this.waiting = { isReached, resolve };
    });
  }

  took(count, at) {
    this.bytes += count;
    this.firstAt ??= at;
    this.lastAt = at;
    this.check();
  }

  check() {
    if (this.waiting?.isReached(this)) {
      const { resolve } = this.waiting;
      this.waiting = null;
      resolve(this);
    }
  }
}

class MeasuringHub {
  constructor(options) {
    this.options = options;
    this.sessions = new Map();
    this.results = new Map();
    this.creditOn = false;
    this.link = null;
    const server = http.createServer();
    this.io = new Server(server, { path: options.path, serveClient: false });
    this.io.of("/agents").on("connection", (socket) => this.#serve(socket));
    server.listen(options.port, options.host, () =>
      report("listening", { port: server.address().port }),
    );
  }

  #serve(socket) {
    this.link = socket;
    const { features } = this.options;
    const theirs = socket.handshake.auth?.features ?? [];
    this.creditOn = features.includes("credit") && theirs.includes("credit");
    report("connection", {
      sid: socket.id,
      transport: socket.client.conn.transport.name,
      query: socket.handshake.query,
      auth: socket.handshake.auth,
    });
    socket.on("shell_output", (payload) => this.#output(payload));
    socket.on("shell_closed", (payload, acknowledge) => {
      const at = now();
      if (typeof acknowledge === "function") acknowledge();
      const session = this.#session(payload.session);
      session.closed = { at, reason: payload.reason, code: payload.code };
      session.check();
      report("closed", { session: payload.session, closedAt: at, reason: payload.reason });
    });
    socket.on("admin_result", (payload, acknowledge) => {
      const at = now();
      if (typeof acknowledge === "function") acknowledge();
      const resolve = this.results.get(payload.token);
      this.results.delete(payload.token);
      resolve?.({ at, code: payload.result.summary.code });
    });
    socket.on("ping", (payload) => socket.emit("pong", payload));
    socket.on("stats", () => report("stats", {}));
    socket.on("disconnect", (reason) => report("disconnect", { sid: socket.id, reason }));
    socket.emit("hello_ack", features.length ? { features, serverTs: Date.now() } : {});
  }

  #session(name) {
    let session = this.sessions.get(name);
    if (!session) this.sessions.set(name, (session = new Session()));
    return session;
  }

  #output({ session: name, data, encoding }) {
    const at = now();
    const count = Buffer.byteLength(data, encoding === "base64" ? "base64" : "utf8");
    const session = this.#session(name);
    session.took(count, at);
    if (!this.creditOn) return;
    session.owed += count + this.#growth(session, count);
    if (session.owed < GRANT_BATCH) return;
    this.link.emit("shell_credit", { session: name, bytes: session.owed });
    session.owed = 0;
  }

  /** How much the window grows by these bytes. */
  #growth(session, count) {
    session.windowBytes += count;
    if (session.windowBytes < session.window) return 0;
    const at = now();
    const isFast = at - session.windowSince < WINDOW_FAST_S;
    session.windowBytes = 0;
    session.windowSince = at;
    if (!isFast || session.window >= WINDOW_MOST) return 0;
    session.window += WINDOW;
    return WINDOW;
  }

  // Each measurement returns the fields of its report.

  /** Start a session; the time to its first byte of output. */
  async open({ session: name }) {
    const session = this.#session(name);
    const started = now();
    this.link.emit("shell_start", { session: name });
    await session.until((s) => s.bytes > 0 || s.closed);
    if (session.closed) throw new Error(`${name}: ${session.closed.reason}`);
    return { seconds: session.firstAt - started };
  }

  /** Type without waiting for an answer. */
  async type({ session: name, data }) {
    this.link.emit("shell_input", { session: name, data });
    return {};
  }

  /** Type, and wait until `bytes` more have come; the time from the input to the last byte. */
  async bulk({ session: name, data, bytes }) {
    const session = this.#session(name);
    const target = session.bytes + bytes;
    const started = now();
    this.link.emit("shell_input", { session: name, data });
    await session.until((s) => s.bytes >= target || s.closed);
    return { seconds: session.lastAt - started };
  }

  /**
   * Type `count` single keys, one at a time, for `limitS` at most; the time of each echo. A key
   * whose echo has not come by then counts with the time it has waited, and is the last.
   */
  async echo({ session: name, count, gapMs, limitS }) {
    const session = this.#session(name);
    const seconds = [];
    const end = now() + limitS;
    let isLost = false;
    while (seconds.length < count && now() < end && !isLost) {
      const before = session.bytes;
      const started = now();
      this.link.emit("shell_input", { session: name, data: "x" });
      const echoed = session.until((s) => s.bytes > before || s.closed).then(() => true);
      isLost = !(await Promise.race([echoed, sleep((end - started) * 1000)]));
      seconds.push((isLost ? now() : session.lastAt) - started);
      if (!isLost) await sleep(gapMs);
    }
    return { seconds, isLost };
  }

  /** Run a command `count` times, `parallel` at once; the time of each and of all. */
  async admin({ command, count, parallel }) {
    const seconds = [];
    const codes = {};
    let next = 0;
    const started = now();
    const runner = async () => {
      while (next < count) {
        const token = `bench-${process.pid}-${started}-${next++}`;
        const asked = now();
        const result = await new Promise((resolve) => {
          this.results.set(token, resolve);
          this.link.emit("admin_run", { token, cmd: { command } });
        });
        seconds.push(result.at - asked);
        codes[result.code] = (codes[result.code] ?? 0) + 1;
      }
    };
    await Promise.all(Array.from({ length: parallel }, runner));
    return { seconds, codes, total: now() - started };
  }

  /** End a session and wait for its `shell_closed`. */
  async close({ session: name }) {
    const session = this.#session(name);
    this.link.emit("shell_close", { session: name });
    await session.until((s) => s.closed);
    return {};
  }

  async count({ session: name }) {
    return { bytes: this.#session(name).bytes };
  }
}

const MEASUREMENTS = ["open", "type", "bulk", "echo", "admin", "close", "count"];
let hub = null;
const lines = readline.createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const message = JSON.parse(line);
  if (!hub) {
    hub = new MeasuringHub(message);
  } else if (message.op === "stop") {
    process.exit(0);
  } else if (MEASUREMENTS.includes(message.op)) {
    try {
      report("measured", { id: message.id, ...(await hub[message.op](message)) });
    } catch (error) {
      report("measured", { id: message.id, error: error.message });
    }
  } else {
    throw new Error(`unknown op ${message.op}`);
  }
});
lines.on("close", () => process.exit(0)); // the bench is gone
