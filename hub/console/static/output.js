// Live output of one command: watched from the first byte that is kept, acknowledged as it is shown.

import { socket } from "./console.js";

const box = document.querySelector("[data-output]");
const MAX_CHARS = 1_000_000;

function show({ job_id: job, data }) {
  if (job !== box.dataset.output) return;
  const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  box.append(decoder.decode(bytes, { stream: true }));
  if (box.textContent.length > MAX_CHARS) box.textContent = box.textContent.slice(-MAX_CHARS / 2);
  socket.emit("admin_taken", { job_id: job, bytes: bytes.length });
}

const decoder = new TextDecoder();
if (box) {
  socket.on("admin_output", show);
  const watch = () => { box.textContent = ""; socket.emit("admin_watch", { job_id: box.dataset.output }); };
  socket.on("connect", watch);
  if (socket.connected) watch();
  // Once it has ended, the page shows the result that is kept.
  document.addEventListener("htmx:after:swap", () => {
    if (document.querySelector("#job[data-ended]")) document.getElementById("live")?.remove();
  });
}
