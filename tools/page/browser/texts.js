// Texts for the checks: what a hostile model might write, an answer that uses everything, a long conversation.

/** Attempts to become more than text, between ordinary Markdown. */
export const hostile = `# A <b>title</b>

<img src=x onerror="window.ran=1"> <script>window.ran=2</script> <svg onload="window.ran=3">
<iframe src="javascript:window.ran=4"></iframe> <a href="javascript:window.ran=5">link</a>

[one](javascript:window.ran=6) [two](JAVASCRIPT:window.ran=7) [three](data:text/html,<script>window.ran=8</script>)
[four](java&#x73;cript:window.ran=9) ![five](x" onerror="window.ran=10) [six](https://a.example/"onmouseover="window.ran=11)
<javascript:window.ran=12> [seven](vbscript:x) [eight](//a.example)

| <img src=x onerror=window.ran=13> | b |
|---|---|
| ${"long ".repeat(30)} | \`<script>\` |

\`\`\`"><img src=x onerror=window.ran=14>
${"<script>window.ran=15</script> ".repeat(8)}
\`\`\`

${"unbroken".repeat(60)}
`;

/** An answer that uses every kind of block. */
export const everything = `A **sampan** is a flat-bottomed wooden boat, used on rivers and in harbours. The name comes from Cantonese *sāam báan*, “three planks”. See [the article](https://en.wikipedia.org/wiki/Sampan).

## How to build one

1. Choose the wood:
   - cedar for the planks
   - oak for the keel, because it is *hard*
2. Cut three planks with \`saw\`.
3. Join them, and check:
   - [x] the keel is straight
   - [ ] the seams are tight

\`\`\`rust
/// How far a boat drifts, in metres.
fn drift(speed: f64, hours: f64) -> f64 {
    let seconds = hours * 3600.0; // the river does not stop
    speed * seconds
}
\`\`\`

| Boat | Length | Crew | Used on |
|:-----|------:|:----:|---------|
| Sampan | 3.5–4.5 m | 1–2 | rivers, harbours |
| Junk | 10–50 m | 5–20 | the open sea |
| Gondola | 11 m | 1 | canals of Venice |

> A boat is safe in harbour, but that is not what boats are for.

サンパンは中国南部や東南アジアの**平底の木造船**です。
`;

/** A conversation of so many messages, as the page keeps it. */
export function bigConversation(count) {
  const id = (number) => number.toString(16).padStart(32, "0");
  const one = { id: id(0), title: "Long", created: 1, updated: 1, settings: {}, messages: {}, chosen: {} };
  for (let i = 1; i <= count; i += 1) {
    const parent = i === 1 ? null : id(i - 1);
    const role = i % 2 === 1 ? "user" : "assistant";
    const content = role === "user" ? `Question ${i}` : everything;
    one.messages[id(i)] = { id: id(i), parent, role, content, model: "mini", finish: "stop" };
    one.chosen[parent ?? ""] = id(i);
  }
  return one;
}
