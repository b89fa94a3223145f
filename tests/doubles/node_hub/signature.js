"use strict";
/** The connect query of contract 1.1: shape, HMAC and a window of 300 s. */
const { createHmac, timingSafeEqual } = require("node:crypto");

const WINDOW_MS = 300_000;

/**
 * Judge a connect URL's query.
 * @param {string} url the request's path and query
 * @param {Object<string,string>} tokens authToken by clientId
 * @returns {string|null} the reason of the refusal, or null
 */
function checkQuery(url, tokens) {
  const query = new URL(url, "http://hub").searchParams;
  const [clientId, ts, sig] = ["clientId", "ts", "sig"].map((name) => query.get(name) ?? "");
  if (!/^[A-Za-z0-9._-]{1,128}$/.test(clientId) || !/^\d{13}$/.test(ts) || !/^[0-9a-f]{64}$/.test(sig)) {
    return "auth_malformed";
  }
  const token = Object.hasOwn(tokens, clientId) ? tokens[clientId] : "";
  const signed = `{"clientId":"${clientId}","ts":${ts}}`;
  const expected = createHmac("sha256", token).update(signed).digest();
  if (token === "" || !timingSafeEqual(expected, Buffer.from(sig, "hex"))) return "auth_failed";
  if (Math.abs(Date.now() - Number(ts)) > WINDOW_MS) return "auth_expired";
  return null;
}

module.exports = { checkQuery };
