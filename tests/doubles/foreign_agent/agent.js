"use strict";
/**
 * A foreign agent as fielded ones are: socket.io-client with its default options (polling first),
 * or what the test gives; no feature list, no acknowledgements.
 *
 * The first line on stdin is {url, clientId, authToken, options}; each further one an event to send,
 * {event, payload}. Each line on stdout is a report: {report, ...}.
 */
const { createHmac } = require("node:crypto");
const readline = require("node:readline");
const { io } = require("socket.io-client");

let socket;

function report(kind, fields) {
  process.stdout.write(JSON.stringify({ report: kind, ...fields }) + "\n");
}

function signedQuery({ clientId, authToken }) {
  const ts = Date.now();
  const body = `{"clientId":"${clientId}","ts":${ts}}`;
  const sig = createHmac("sha256", authToken).update(body).digest("hex");
  return { clientId, ts: String(ts), sig };
}

function start(given) {
  socket = io(`${given.url}/agents`, { ...given.options, query: signedQuery(given) });
  socket.io.on("reconnect_attempt", () => {
    socket.io.opts.query = signedQuery(given);
  });
  socket.io.on("open", () => {
    report("open", { transport: socket.io.engine.transport.name });
    socket.io.engine.once("upgrade", () => report("upgrade", {}));
  });
  socket.on("connect", () => report("connect", {}));
  socket.on("connect_error", (error) => {
    report("connect_error", { message: error.message, data: error.data });
  });
  socket.on("disconnect", (reason) => report("disconnect", { reason }));
  socket.onAny((event, payload) => {
    if (event === "ping") socket.emit("pong", { ts: payload.ts });
    report("event", { event, payload, bytes: JSON.stringify([event, payload]).length });
  });
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const message = JSON.parse(line);
  if (socket === undefined) start(message);
  else socket.emit(message.event, message.payload);
}).on("close", () => process.exit(0));
