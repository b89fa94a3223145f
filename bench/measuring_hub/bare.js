"use strict";
/** A bare server: checks the signature, says hello, acknowledges. node bare.js PORT TOKEN */
const { createHmac, timingSafeEqual } = require("node:crypto");
const http = require("node:http");
const { Server } = require("socket.io");

const [port, token] = process.argv.slice(2);
const server = http.createServer();
const io = new Server(server, { transports: ["websocket"], perMessageDeflate: false });

function isSigned({ clientId, ts, sig }) {
  if (!/^[A-Za-z0-9._-]{1,128}$/.test(clientId) || !/^[0-9]{13}$/.test(ts)) return false;
  if (!/^[0-9a-f]{64}$/.test(sig) || Math.abs(Date.now() - Number(ts)) > 300000) return false;
  const body = `{"clientId":"${clientId}","ts":${ts}}`;
  const expected = createHmac("sha256", token).update(body).digest();
  return timingSafeEqual(expected, Buffer.from(sig, "hex"));
}

const agents = io.of("/agents");
agents.use((socket, next) => next(isSigned(socket.handshake.query) ? undefined : new Error("auth_failed")));
agents.on("connection", (socket) => {
  socket.emit("hello_ack", {});
  socket.on("agent_update_result", (_payload, acknowledge) => acknowledge());
});
server.listen(Number(port), "127.0.0.1", 4096);
