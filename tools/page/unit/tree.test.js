// A conversation as a tree of messages, and the files it travels in.

import assert from "node:assert/strict";
import { test } from "node:test";
import { merge } from "../../../crates/serve/assets/files.js";
import { fromFile, toFile } from "../../../crates/serve/assets/store.js";
import * as tree from "../../../crates/serve/assets/tree.js";

/** A conversation of user and assistant in turns. */
function talk(...contents) {
  const made = tree.conversation({ system: "Be brief." }, 1);
  let parent = null;
  contents.forEach((content, i) => {
    parent = tree.add(made, parent, i % 2 === 0 ? "user" : "assistant", content, 2 + i).id;
  });
  return made;
}

const shown = (made) => tree.path(made).map(({ content }) => content).join(" / ");
const at = (made, index) => tree.path(made)[index].id;

test("an edit makes a branch, and both branches can be shown", () => {
  const made = talk("q1", "a1", "q2", "a2");
  const other = tree.edit(made, at(made, 0), "q1'");
  tree.add(made, other.id, "assistant", "a1'");
  assert.equal(shown(made), "q1' / a1'");
  assert.deepEqual(tree.branches(made).get(null).length, 2);
  assert.ok(tree.turn(made, at(made, 0), -1));
  assert.equal(shown(made), "q1 / a1 / q2 / a2");
  assert.ok(!tree.turn(made, at(made, 0), -1));
  assert.ok(tree.turn(made, at(made, 0), 1));
  assert.equal(shown(made), "q1' / a1'");
});

test("a branch is found again as deep as it was left", () => {
  const made = talk("q1", "a1", "q2", "a2");
  tree.add(made, at(made, 2), "assistant", "a2'");
  assert.equal(shown(made), "q1 / a1 / q2 / a2'");
  tree.edit(made, at(made, 0), "q1'");
  tree.turn(made, at(made, 0), -1);
  assert.equal(shown(made), "q1 / a1 / q2 / a2'");
});

test("an edited answer says so and is what goes on", () => {
  const made = talk("q1", "a1");
  const other = tree.edit(made, at(made, 1), "better");
  assert.ok(other.edited);
  const next = tree.add(made, other.id, "user", "q2");
  assert.deepEqual(tree.prompt(made, next.id).map(({ role, content }) => `${role}: ${content}`), [
    "system: Be brief.",
    "user: q1",
    "assistant: better",
    "user: q2",
  ]);
});

test("an answer that never came and reasoning are not sent", () => {
  const made = talk("q1", "", "q2");
  made.messages[at(made, 0)].reasoning = "hm";
  made.settings.system = "  ";
  assert.deepEqual(tree.prompt(made, at(made, 2)), [{ role: "user", content: "q1" }, { role: "user", content: "q2" }]);
});

test("a title is given or begins like the conversation", () => {
  assert.equal(tree.title(talk()), "New chat");
  assert.equal(tree.title(talk("  one\n two ")), "one two");
  assert.equal(tree.title(talk("x".repeat(100))).length, 60);
  assert.equal(tree.title({ ...talk("q"), title: "Boats" }), "Boats");
});

test("a file gives back what went into it", () => {
  const made = talk("q1", "a1");
  tree.edit(made, at(made, 1), "better");
  assert.deepEqual(fromFile(toFile([made])), [made]);
});

test("a file that is broken or means harm is refused with the reason", () => {
  const made = talk("q1", "a1");
  const [first, second] = tree.path(made);
  const broken = (change) => {
    const copy = JSON.parse(toFile([made]));
    change(copy.conversations[0], copy);
    return JSON.stringify(copy);
  };
  const cases = [
    ["no JSON", "{", /not a JSON file/],
    ["another format", "{}", /no conversations of sampan/],
    ["a later version", broken((_, file) => (file.version = 2)), /version 2/],
    ["no list", broken((_, file) => (file.conversations = {})), /not a list/],
    ["a wrong id", broken((one) => (one.id = "../x")), /32 hexadecimal/],
    ["an unknown role", broken((one) => (one.messages[first.id].role = "system")), /unknown role system/],
    ["content that is no text", broken((one) => (one.messages[first.id].content = { a: 1 })), /content is not text/],
    ["a circle", broken((one) => (one.messages[first.id].parent = second.id)), /not before it/],
    ["a message under another name", broken((one) => (one.messages[first.id].id = second.id)), /calls itself/],
    ["a choice of nothing", broken((one) => (one.chosen[""] = second.id)), /does not follow/],
    ["a prototype", toFile([made]).replaceAll(first.id, "__proto__"), /32 hexadecimal/],
  ];
  for (const [name, text, reason] of cases) assert.throws(() => fromFile(text), reason, name);
});

test("of the same conversation the newer one stays", () => {
  const old = talk("q1");
  const newer = { ...structuredClone(old), updated: 99 };
  const all = new Map([[old.id, old]]);
  assert.deepEqual(merge(all, [newer, talk("other")]).length, 2);
  assert.equal(all.get(old.id).updated, 99);
  assert.deepEqual(merge(all, [old]), []);
  assert.equal(all.get(old.id).updated, 99);
});
