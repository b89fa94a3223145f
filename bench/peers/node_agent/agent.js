"use strict";
/**
 * A minimal agent of the wire contract (1.1-1.4 and 1.9), as a Node developer would write it:
 * socket.io-client and node-pty, one process, events handled where they arrive.
 *
 * Usage: node agent.js CONFIG [--credit]
 * CONFIG is an agent-config.json: clientId, serverUrl, authToken, transport.path, statsIntervalSec,
 * shell.command and shell.args. With --credit it lists the feature `credit` and honours it.
 */
const { createHmac } = require("node:crypto");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const pty = require("node-pty");
const { io } = require("socket.io-client");

const config = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const offersCredit = process.argv.includes("--credit");
const WINDOW = 64 * 1024;
const OUTPUT_LIMIT = 100 * 1024;

const sessions = new Map(); // session -> { terminal, credit }
let creditOn = false;
let lastCpu = cpuTimes();

function signedQuery() {
  const ts = Date.now();
  const body = `{"clientId":"${config.clientId}","ts":${ts}}`;
  const sig = createHmac("sha256", config.authToken).update(body).digest("hex");
  return { clientId: config.clientId, ts: String(ts), sig };
}

const base = new URL(config.serverUrl);
const path = config.transport?.path ?? "/socket.io";
const socket = io(`${base.origin}/agents`, {
  path: base.pathname.replace(/\/$/, "") + path,
  query: signedQuery(),
  transports: ["websocket", "polling"],
  tryAllTransports: true,
  auth: offersCredit ? { features: ["credit"] } : undefined,
  reconnectionDelay: 1000,
  reconnectionDelayMax: 30000,
});

function emit(event, payload) {
  socket.emit(event, { type: event, t: event, ...payload });
}

socket.io.on("reconnect_attempt", () => {
  socket.io.opts.query = signedQuery();
});
socket.on("connect_error", (error) => console.error("connect:", error.message));
socket.on("hello_ack", (hello) => {
  creditOn = offersCredit && Boolean(hello?.features?.includes("credit"));
  sendStats();
});
socket.on("ping", ({ ts }) => emit("pong", { ts }));
setInterval(sendStats, (config.statsIntervalSec ?? 60) * 1000);

// Shells

socket.on("shell_start", ({ session, cols, rows }) => {
  if (sessions.has(session)) return;
  if (!config.admin?.enableShell) return emit("shell_closed", { session, reason: "disabled" });
  let terminal;
  try {
    terminal = pty.spawn(config.shell?.command ?? "/bin/bash", config.shell?.args ?? ["-l"], {
      name: "xterm-256color",
      cols: cols ?? 80,
      rows: rows ?? 24,
      cwd: os.homedir(),
      env: process.env,
    });
  } catch (error) {
    return emit("shell_closed", { session, reason: "pty unavailable", detail: error.message });
  }
  const shell = { terminal, credit: WINDOW };
  sessions.set(session, shell);
  terminal.onData((data) => {
    emit("shell_output", { session, data });
    if (!creditOn) return;
    shell.credit -= Buffer.byteLength(data);
    if (shell.credit <= 0) terminal.pause();
  });
  terminal.onExit(({ exitCode, signal }) => {
    sessions.delete(session);
    emit("shell_closed", { session, code: exitCode, signal: signal || undefined, reason: "exit" });
  });
});
socket.on("shell_credit", ({ session, bytes }) => {
  const shell = sessions.get(session);
  if (!shell) return;
  shell.credit += bytes;
  if (shell.credit > 0) shell.terminal.resume();
});
socket.on("shell_input", ({ session, data }) => sessions.get(session)?.terminal.write(data));
socket.on("shell_resize", ({ session, cols, rows }) => {
  if (cols >= 1 && cols <= 1000 && rows >= 1 && rows <= 1000) {
    sessions.get(session)?.terminal.resize(cols, rows);
  }
});
socket.on("shell_close", ({ session }) => sessions.get(session)?.terminal.kill());

// Commands

socket.on("admin_run", ({ token, cmd }) => {
  const started = Date.now();
  const allowed = config.admin?.allowedCommands ?? [];
  const argv = cmd.command.split(/\s+/).filter(Boolean);
  const done = (code, stdout, stderr, signal) =>
    emit("admin_result", {
      token,
      command: cmd.command,
      result: { stdout, stderr, summary: { code, signal, durationMs: Date.now() - started } },
    });
  if (!allowed.includes("*") && !allowed.includes(argv[0])) return done(126, "", "not allowed");
  const child = spawn(argv[0], argv.slice(1), { cwd: cmd.cwd, stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), (cmd.timeoutSec ?? 30) * 1000);
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) {
    child[name].setEncoding("utf8");
    child[name].on("data", (text) => {
      if (output[name].length < OUTPUT_LIMIT) output[name] += text;
    });
  }
  child.on("error", (error) => {
    clearTimeout(timer);
    done(error.code === "ENOENT" ? 127 : 126, "", error.message);
  });
  child.on("close", (code, signal) => {
    clearTimeout(timer);
    if (child.pid === undefined) return; // "error" has answered
    done(code ?? 128 + os.constants.signals[signal], output.stdout, output.stderr, signal ?? undefined);
  });
});

// Stats

function cpuTimes() {
  const times = os.cpus().map((cpu) => cpu.times);
  const idle = times.reduce((sum, t) => sum + t.idle, 0);
  const total = times.reduce((sum, t) => sum + t.user + t.nice + t.sys + t.irq + t.idle, 0);
  return { idle, total };
}

function sendStats() {
  const cpu = cpuTimes();
  const busy = 1 - (cpu.idle - lastCpu.idle) / Math.max(1, cpu.total - lastCpu.total);
  lastCpu = cpu;
  const [one, five, fifteen] = os.loadavg();
  const { bavail, bfree, blocks, bsize } = fs.statfsSync("/");
  emit("stats", {
    data: {
      cpu: Math.round(busy * 1000) / 10,
      mem: { used: os.totalmem() - os.freemem(), free: os.freemem(), total: os.totalmem() },
      load: { "1m": one, "5m": five, "15m": fifteen },
      disk: [{ mount: "/", used: (blocks - bfree) * bsize, avail: bavail * bsize }],
      net: [],
      hostname: os.hostname(),
      uptimeSec: Math.round(os.uptime()),
      ts: new Date().toISOString(),
    },
  });
}
