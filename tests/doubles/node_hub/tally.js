"use strict";
/** Counts what is too much to report: per session the events, bytes, and SHA-256 of the data. */
const { createHash } = require("node:crypto");

class Tally {
  #sessions = new Map();

  add(event, payload) {
    const key = `${event} ${payload?.session ?? payload?.jobId ?? ""}`;
    let entry = this.#sessions.get(key);
    if (!entry) {
      entry = { events: 0, bytes: 0, hash: createHash("sha256"), tail: "" };
      this.#sessions.set(key, entry);
    }
    const data = Buffer.from(payload?.data ?? "", payload?.encoding === "base64" ? "base64" : "utf8");
    entry.events += 1;
    entry.bytes += data.length;
    entry.hash.update(data);
    entry.tail = (entry.tail + data.toString("utf8")).slice(-200);
  }

  /** @returns {Object<string,{events:number,bytes:number,sha256:string,tail:string}>} */
  read() {
    const entries = [...this.#sessions].map(([key, { hash, ...rest }]) => [
      key,
      { ...rest, sha256: hash.copy().digest("hex") },
    ]);
    return Object.fromEntries(entries);
  }
}

module.exports = { Tally };
