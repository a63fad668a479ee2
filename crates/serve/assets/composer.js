// The box in which messages are written.

import { byId, setIcon } from "./dom.js";

/** @param {Object} actions `send(text)` (returns whether it was taken), `stop()`, `editLast()` */
export function composer(actions) {
  const area = byId("prompt");
  const button = byId("send");
  let running = false;

  function fit() {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
    button.disabled = !running && area.value.trim() === "";
  }

  function send() {
    if (running || area.value.trim() === "" || !actions.send(area.value)) return;
    area.value = "";
    fit();
  }

  area.addEventListener("input", fit);
  area.addEventListener("keydown", (event) => {
    // Enter also ends the composition of Japanese or Chinese characters; then it sends nothing.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
    else if (event.key === "ArrowUp" && area.value === "" && !running) actions.editLast();
    else return;
    event.preventDefault();
  });
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) actions.stop();
    else send();
  });
  fit();

  return {
    focus: () => area.focus(),
    /** While an answer is written the button stops it. */
    setRunning(value) {
      running = value;
      setIcon(button.querySelector("svg"), running ? "stop" : "up");
      button.setAttribute("aria-label", running ? "Stop" : "Send");
      button.classList.toggle("stop", running);
      fit();
    },
  };
}
