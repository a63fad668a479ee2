// The page that describes the routes, made from /openapi.json.

import { key } from "./api.js";
import { byId, h } from "./dom.js";

const METHODS = ["get", "post", "put", "delete"];

show();

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(byId("key-value").value.trim());
  byId("key-value").value = "";
  show();
});

async function show() {
  const headers = key.get() ? { authorization: `Bearer ${key.get()}` } : {};
  const response = await fetch("openapi.json", { headers }).catch(() => null);
  byId("key-form").hidden = response?.status !== 401;
  if (!response?.ok) {
    const problem = response ? `The server answered ${response.status}.` : "The server does not answer. Is sampan still running?";
    byId("problem").textContent = response?.status === 401 ? "This server wants an API key." : problem;
    byId("problem").hidden = false;
    return;
  }
  byId("problem").hidden = true;
  draw(await response.json());
}

function draw(api) {
  byId("about").append(` ${api.info.title} ${api.info.version}. ${api.info.description}`);
  const routes = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })),
  );
  for (const tag of api.tags) {
    const own = routes.filter((route) => route.tags.includes(tag.name));
    const entry = (route) => h("li", {}, h("a", { href: `#${anchor(route)}` }, route.path));
    byId("contents").append(h("h2", {}, tag.name), h("ul", {}, ...own.map(entry)));
    byId("routes").append(h("h2", {}, tag.name), h("p", { class: "soft" }, tag.description), ...own.map(section));
  }
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function anchor({ method, path }) {
  return `${method}${path.replace(/[^a-z0-9]+/gi, "-")}`;
}

function section(route) {
  const content = route.requestBody?.content["application/json"];
  const parts = [
    h("h3", {}, h("span", { class: "method" }, route.method.toUpperCase()), ` ${route.path}`),
    h("p", {}, route.summary, route.description ? `. ${route.description}` : ""),
  ];
  if (content) parts.push(fields(content.schema), h("pre", { tabindex: "0" }, command(route, content.example)));
  const answers = Object.entries(route.responses).map(([status, { description }]) => h("tr", {}, h("td", {}, h("code", {}, status)), h("td", {}, description)));
  parts.push(h("details", {}, h("summary", {}, "Answers"), h("table", {}, h("tbody", {}, ...answers))));
  return h("section", { id: anchor(route) }, ...parts);
}

function fields({ properties, required }) {
  const row = ([name, { type, description }]) =>
    h("tr", {}, h("td", {}, h("code", {}, name)), h("td", { class: "soft" }, [type, required.includes(name) && "needed"].filter(Boolean).join(", ")), h("td", {}, description ?? ""));
  return h("table", {}, h("tbody", {}, ...Object.entries(properties).map(row)));
}

/** How to ask from a shell. */
function command({ method, path }, example) {
  const verb = method === "post" ? "" : ` -X ${method.toUpperCase()}`;
  const json = JSON.stringify(example).replaceAll("'", "'\\''");
  return `curl${verb} ${location.origin}${path} -H 'content-type: application/json' \\\n  -d '${json}'`;
}
