// Plays a recording. Nothing is sent anywhere: the player has no way to an agent.

const box = document.getElementById("player");
window.addEventListener("load", () => {
  window.AsciinemaPlayer.create(box.dataset.cast, box, { fit: "width", controls: true, autoPlay: true, idleTimeLimit: 3, terminalFontSize: "medium", preload: true });
});
