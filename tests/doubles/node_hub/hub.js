"use strict";
/**
 * A foreign server as fielded ones are: Socket.IO 4, namespace /agents, contract 1.1-1.6 and 1.9.
 *
 * It knows nothing of 1.7: it ignores the CONNECT auth, lists no features and acknowledges nothing.
 * The test drives it by JSON lines: the first line on stdin is the options, each further one a
 * command; each line on stdout is a report. Times are CLOCK_MONOTONIC seconds, the same clock as
 * Python's time.monotonic(). tests/doubles/hubs.py is the other end.
 */
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const readline = require("node:readline");
const { Server } = require("socket.io");
const { checkQuery } = require("./signature");
const { Tally } = require("./tally");

const now = () => Number(process.hrtime.bigint()) / 1e9;

function report(kind, fields) {
  process.stdout.write(JSON.stringify({ report: kind, at: now(), ...fields }) + "\n");
}

/** Make a value fit for JSON: bytes at any depth become {"$binary": base64}. */
function plain(value) {
  if (Buffer.isBuffer(value)) return { $binary: value.toString("base64") };
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]));
}

class Hub {
  constructor(options) {
    this.options = options;
    this.modes = { ...options.modes };
    this.tally = new Tally();
    this.latest = null;
    this.server = this.#httpServer();
    this.io = new Server(this.server, {
      path: options.path,
      transports: options.transports,
      maxHttpBufferSize: options.maxPayload,
      pingInterval: options.pingIntervalMs,
      pingTimeout: options.pingTimeoutMs,
      serveClient: false,
    });
    this.#guardRequests();
    this.agents = this.io.of("/agents");
    this.agents.use((socket, next) => this.#admit(socket, next));
    this.agents.on("connection", (socket) => this.#serve(socket));
  }

  #httpServer() {
    const { certFile, keyFile } = this.options;
    if (!certFile) return http.createServer();
    return https.createServer({ cert: fs.readFileSync(certFile), key: fs.readFileSync(keyFile) });
  }

  listen() {
    this.server.listen(this.options.port, this.options.host, () =>
      report("listening", { port: this.server.address().port }),
    );
  }

  /** Stand before Engine.IO: answer as a middlebox would, where a mode says so. */
  #guardRequests() {
    const requests = this.server.listeners("request");
    this.server.removeAllListeners("request");
    this.server.on("request", (req, res) => {
      const url = new URL(req.url, "http://hub");
      if (!url.searchParams.has("sid")) report("request", { url: req.url, upgrade: false });
      if (this.modes.http && this.#answer(res)) return;
      for (const listener of requests) listener.call(this.server, req, res);
    });
    const upgrades = this.server.listeners("upgrade");
    this.server.removeAllListeners("upgrade");
    this.server.on("upgrade", (req, socket, head) => {
      report("request", { url: req.url, upgrade: true });
      socket.on("error", () => {});
      const status = this.modes.websocketStatus;
      if (status) {
        socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      } else if (this.modes.http) {
        const res = new http.ServerResponse(req);
        res.assignSocket(socket);
        res.on("finish", () => socket.end());
        this.#answer(res);
      } else {
        for (const listener of upgrades) listener.call(this.server, req, socket, head);
      }
    });
  }

  #answer(res) {
    const { status, headers, body } = this.modes.http;
    res.writeHead(status, { Connection: "close", ...headers });
    res.end(body || "");
    return true;
  }

  #admit(socket, next) {
    const reason = checkQuery(socket.request.url, this.options.tokens);
    const refusal = this.modes.refuse || (reason && { message: reason });
    if (refusal) {
      report("refused", { sid: socket.id, message: refusal.message, query: socket.handshake.query });
      const error = new Error(refusal.message);
      if (refusal.data) error.data = refusal.data;
      next(error);
    } else if (this.modes.silent) {
      report("ignored", { sid: socket.id });
    } else {
      if (this.modes.helloAck === "early") socket.client.conn.write('2/agents,["hello_ack",{}]');
      next();
    }
  }

  #serve(socket) {
    this.latest = socket;
    const { conn } = socket.client;
    report("connection", {
      sid: socket.id,
      transport: conn.transport.name,
      query: socket.handshake.query,
      auth: socket.handshake.auth,
    });
    conn.on("upgrade", () => report("upgrade", { sid: socket.id, transport: conn.transport.name }));
    // Engine.IO's own pong: what the agent sent before it has arrived.
    conn.on("packet", (packet) => {
      if (packet.type === "pong") report("engine_pong", { sid: socket.id });
    });
    const timers = this.#greet(socket);
    socket.onAny((event, ...args) => this.#receive(socket, event, args));
    socket.on("disconnect", (reason) => {
      timers.forEach(clearInterval);
      report("disconnect", { sid: socket.id, reason });
    });
  }

  #greet(socket) {
    const timers = [];
    const hello = this.modes.helloAck;
    const payload = this.options.helloPayload;
    const greet = () => (payload === undefined ? socket.emit("hello_ack") : socket.emit("hello_ack", payload));
    if (hello === "now") greet();
    if (typeof hello === "number") timers.push(setTimeout(greet, hello));
    if (this.options.pingEveryMs > 0) {
      timers.push(setInterval(() => socket.emit("ping", { ts: Date.now() }), this.options.pingEveryMs));
    }
    return timers;
  }

  #receive(socket, event, args) {
    const wantsAck = typeof args.at(-1) === "function";
    if (wantsAck) args = args.slice(0, -1);
    if (event === "ping" && this.modes.answerPing) socket.emit("pong", args[0]);
    if (this.modes.tally.includes(event)) this.tally.add(event, args[0]);
    else report("event", { sid: socket.id, event, args: args.map(plain), wantsAck });
  }

  #socket(sid) {
    return sid ? this.agents.sockets.get(sid) : this.latest;
  }

  /** Carry out one command line of the test. */
  command(line) {
    const { op, sid, event, args, ...rest } = line;
    const socket = this.#socket(sid);
    switch (op) {
      case "emit":
        socket?.emit(event, ...args);
        break;
      case "raw":
        socket?.client.conn.write(rest.base64 ? Buffer.from(rest.base64, "base64") : rest.text);
        break;
      case "drop":
        if (rest.how === "namespace") socket?.disconnect(false);
        else if (rest.how === "abort") socket?.client.conn.transport.socket?._socket?.destroy();
        else socket?.client.conn.close();
        break;
      case "set":
        Object.assign(this.modes, rest.modes);
        break;
      case "tally":
        report("tally", { sessions: this.tally.read() });
        break;
      case "stop":
        this.io.close(() => process.exit(0));
        break;
      default:
        throw new Error(`unknown op ${op}`);
    }
    if (rest.id !== undefined) report("done", { id: rest.id });
  }
}

let hub = null;
const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const message = JSON.parse(line);
  if (hub) return hub.command(message);
  hub = new Hub(message);
  hub.listen();
});
lines.on("close", () => process.exit(0)); // the test is gone
