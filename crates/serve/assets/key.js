// Asks for the API key when the server answers 401.

import { key } from "./api.js";
import { byId } from "./dom.js";

let asking = null;

/** Shows the dialog with the server's reason; resolves to whether a key was given. Asked twice at once, it is one dialog. */
export function askForKey(reason) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key");
    const value = byId("key-value");
    byId("key-reason").textContent = reason;
    value.value = "";
    dialog.returnValue = "";
    byId("key-cancel").onclick = () => dialog.close("");
    dialog.onclose = () => {
      asking = null;
      const given = dialog.returnValue === "use" && value.value.trim() !== "";
      if (given) key.set(value.value.trim());
      value.value = "";
      resolve(given);
    };
    dialog.showModal();
    value.focus();
  });
  return asking;
}

/** Runs `request()`; asks for a key as long as the server wants another one and the user gives one. */
export async function withKey(request) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (error.status !== 401 || !(await askForKey(error.message))) throw error;
    }
  }
}
