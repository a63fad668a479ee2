"""Conversations that teach and test mini, made by program.

`sample(rng, skill, split)` draws one item. An item's `key` names what has to be worked out (the word, the sum, the sentence);
its hash decides whether it belongs to `train` or `held_out`, so that the two never share a key. Run this file to look at some.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

import lexicon as lx
from catalogue import TOOLS, Drawn, draw
from facts import ABOUT, CHAT, SYSTEMS, question
from forms import RECORDS

HELD_OUT_SHARE = 16  # of 256 hash values


@dataclass
class Item:
    """One prompt with the answer wanted. `messages` ends with the user's (or a tool's) message."""

    skill: str
    messages: list[dict]
    answer: str
    key: str
    tools: list[dict] | None = None
    thinking: bool = True
    reasoning: str = ""
    check: dict[str, Any] = field(default_factory=dict)


def held_out(key: str) -> bool:
    """Whether the item named `key` is kept out of training."""
    return hashlib.sha256(key.encode()).digest()[0] < HELD_OUT_SHARE


def _ask(rng: random.Random, phrasings: str, **slots: Any) -> str:
    """One of the phrasings, with the small liberties that people take."""
    text = rng.choice(phrasings.split("|"))
    if rng.random() < 0.12 and text[0].isupper() and text[:2] != "I ":
        polite = ["Now ", "Please "] if text.split()[0] in ("What", "How", "Is", "Do", "What's") else ["Please ", "Can you ", "Could you "]
        text = rng.choice(polite) + text[0].lower() + text[1:]
    elif rng.random() < 0.2 and not text.startswith("{"):
        text = text[0].lower() + text[1:]
    text = text.format(**slots)
    if rng.random() < 0.15:
        text = text[:-1] if text[-1] in "?." else text + rng.choice([".", "?", "!", " please", ", please"])
    return text


def _user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


TO_KANA = """Write {x} in hiragana|Convert {x} to hiragana|{x} in hiragana|How do you write {x} in hiragana?|Transliterate {x} into
hiragana|What is {x} in hiragana?|Hiragana for {x}?|hiragana: {x}|Turn {x} into hiragana|Convert to hiragana: {x}|Change {x} from romaji to
hiragana|Spell {x} with hiragana|Give me the hiragana of {x}|Romaji to hiragana: {x}|{x}をひらがなで""".replace("\n", " ")
TO_ROMAJI = """Write {x} in romaji|Convert {x} to romaji|{x} in romaji|How do you read {x}?|Transliterate {x} into romaji|What is {x} in
romaji?|Romaji for {x}?|romaji: {x}|Turn {x} into romaji|Convert to romaji: {x}|Change {x} from hiragana to romaji|Romanize {x}|Give me the
romaji of {x}|Hiragana to romaji: {x}|Write {x} in Latin letters|How is {x} pronounced?|{x}をローマ字で""".replace("\n", " ")


def kana_item(rng: random.Random, to_kana: bool) -> Item:
    """A word or two between romaji and hiragana."""
    pairs = []
    for _ in range(rng.choices([1, 2, 3], [86, 11, 3])[0]):
        if rng.random() < 0.05:
            word = rng.choice(lx.REAL_WORDS)
            pairs.append((word, lx.to_kana(word)))
        else:
            pairs.append(lx.kana_word(rng, rng.choices(range(1, 9), [2, 10, 18, 20, 15, 10, 6, 4])[0]))
    romaji, kana = " ".join(p[0] for p in pairs), " ".join(p[1] for p in pairs)
    source, target = (romaji, kana) if to_kana else (kana, romaji)
    shown = source.capitalize() if to_kana and rng.random() < 0.04 else source
    quoted = rng.choices(["{}", '"{}"', "'{}'", "「{}」"], [70, 20, 3, 7])[0].format(shown)
    text = _ask(rng, TO_KANA if to_kana else TO_ROMAJI, x=quoted)
    skill = "romaji to hiragana" if to_kana else "hiragana to romaji"
    return Item(skill, _user(text), target, f"{skill}:{source}", check={"exact": target})


NUMBERS = {
    "en": ("numbers in English", lx.english, """Write {x} in English|Write {x} in words|{x} in English|Spell out {x}|How do you say {x} in
English?|What is {x} in English?|{x} in words|Write the number {x} in English words|English: {x}|Say {x} in English|How do you write {x} in
words?|Spell the number {x}""".replace("\n", " ")),
    "it": ("numbers in Italian", lx.italian, """Write {x} in Italian|{x} in Italian|How do you say {x} in Italian?|What is {x} in Italian?|Scrivi
{x} in lettere|Come si scrive {x} in italiano?|{x} in italiano|Write the number {x} in Italian words|Italian: {x}|Say {x} in Italian|Scrivi il
numero {x} in italiano|Spell out {x} in Italian""".replace("\n", " ")),
    "ja": ("numbers in Japanese", lx.japanese, """Write {x} in Japanese|{x} in Japanese|How do you say {x} in Japanese?|What is {x} in
Japanese?|{x}を漢字で|Write {x} in kanji|{x} in kanji|Write the number {x} in Japanese|Japanese: {x}|Say {x} in Japanese|{x}を漢字で書いて|Spell out
{x} in Japanese|Convert {x} to kanji""".replace("\n", " ")),
}


def number_item(rng: random.Random, language: str) -> Item:
    """A number from 0 to 9999 written out."""
    skill, write, phrasings = NUMBERS[language]
    n = rng.randrange(10 ** rng.choices([1, 2, 3, 4], [4, 12, 34, 50])[0])
    # Below 100 there are too few to hold any out: the words themselves must be learned.
    key = f"number:{language}:{n}" if n >= 100 else f"number:{language}:small"
    return Item(skill, _user(_ask(rng, phrasings, x=n)), write(n), key, check={"exact": write(n)})


COLUMNS = ("ones", "tens", "hundreds")
ADD = """What is {a} + {b}?|{a} + {b}|Add {a} and {b}|{a} plus {b}|Calculate {a} + {b}|How much is {a} + {b}?|{a}+{b}|{a}+{b}=?|{a} + {b} =|What is
{a} plus {b}?|What is the sum of {a} and {b}?|Work out {a} + {b}|Add {b} to {a}|Compute {a}+{b}|Sum {a} and {b}""".replace("\n", " ")
SUBTRACT = """What is {a} - {b}?|{a} - {b}|Subtract {b} from {a}|{a} minus {b}|Calculate {a} - {b}|How much is {a} - {b}?|{a}-{b}|{a}-{b}=?|{a} - {b}
=|What is {a} minus {b}?|Take {b} away from {a}|Work out {a} - {b}|Take {b} from {a}|Compute {a}-{b}""".replace("\n", " ")


def _padded(a: int, b: int) -> tuple[str, str]:
    width = max(len(str(a)), len(str(b)))
    return str(a).zfill(width), str(b).zfill(width)


def work_add(a: int, b: int) -> str:
    """The written working of a + b, column by column."""
    top, bottom = _padded(a, b)
    lines, carry, digits = [f"{top} + {bottom}"], 0, ""
    for column, x, y in zip(COLUMNS, reversed(top), reversed(bottom)):
        total = int(x) + int(y) + carry
        carried = f" + {carry}" if carry else ""
        carry, digits = total // 10, str(total % 10) + digits
        lines.append(f"{column}: {x} + {y}{carried} = {total}, write {total % 10}" + (", carry 1" if carry else ""))
    return "\n".join(lines + [f"result: {'1' if carry else ''}{digits}"])


def work_subtract(a: int, b: int) -> str:
    """The written working of a - b; a smaller minuend is turned round first."""
    if a < b:
        return f"{a} < {b}, so turn round\n" + work_subtract(b, a)
    top, bottom = _padded(a, b)
    lines, borrow, digits = [f"{top} - {bottom}"], 0, ""
    for column, x, y in zip(COLUMNS, reversed(top), reversed(bottom)):
        taken = f" - {borrow}" if borrow else ""
        left = int(x) - int(y) - borrow
        borrow = int(left < 0)
        shown = f"borrow 1, 1{x}" if borrow else x
        left += 10 * borrow
        digits = str(left) + digits
        lines.append(f"{column}: {shown} - {y}{taken} = {left}, write {left}")
    return "\n".join(lines + [f"result: {digits}"])


def sum_item(rng: random.Random, minus: bool) -> Item:
    """An addition or a subtraction of numbers of up to three digits."""
    a, b = (rng.randrange(10 ** rng.choices([1, 2, 3], [8, 27, 65])[0]) for _ in range(2))
    if minus and a < b and rng.random() < 0.4:
        a, b = b, a
    sign, value = ("-", a - b) if minus else ("+", a + b)
    text = _ask(rng, SUBTRACT if minus else ADD, a=a, b=b)
    working = work_subtract(a, b) if minus else work_add(a, b)
    key = f"{a}{sign}{b}" if max(a, b) > 9 else f"{sign}small"
    return Item("subtraction" if minus else "addition", _user(text), f"{a} {sign} {b} = {value}", key, reasoning=working,
                check={"result": value, "operands": [a, b]})


def _offer(rng: random.Random, wanted: Drawn | None, most: int = 3) -> list[dict]:
    """A shuffled list of tool specifications around the wanted one."""
    others = rng.sample([t for t in TOOLS if wanted is None or t is not wanted.tool], rng.randint(1, most) - (wanted is not None))
    specs = [draw(rng, t).spec for t in others] + ([wanted.spec] if wanted else [])
    names = [s["function"]["name"] for s in specs]
    if len(set(names)) < len(names):
        return _offer(rng, wanted, most)
    rng.shuffle(specs)
    return specs


def call_text(drawn: Drawn) -> str:
    """The tool call as mini writes it."""
    body = json.dumps({"name": drawn.name, "arguments": drawn.arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


NO_TOOL = "None of my tools can do that."


def tool_item(rng: random.Random) -> Item:
    """Choosing a tool and calling it."""
    drawn = draw(rng, rng.choice(TOOLS))
    text = _ask(rng, drawn.tool.requests, **drawn.slots)
    key = f"tool:{drawn.tool.names}:{drawn.slots}"
    return Item("tool call", _user(text), call_text(drawn), key, tools=_offer(rng, drawn),
                check={"call": {"name": drawn.name, "arguments": drawn.arguments}})


def unfit_item(rng: random.Random) -> Item:
    """A request that none of the tools can do."""
    drawn = draw(rng, rng.choice(TOOLS))
    specs = [draw(rng, t).spec for t in rng.sample([t for t in TOOLS if t is not drawn.tool], rng.randint(1, 3))]
    text = _ask(rng, drawn.tool.requests, **drawn.slots)
    return Item("no tool fits", _user(text), NO_TOOL, f"tool:{drawn.tool.names}:{drawn.slots}", tools=specs, check={"exact": NO_TOOL})


ERRORS = "not found|no connection|timed out|access denied|unknown place|try again later".split("|")


def result_item(rng: random.Random) -> Item:
    """Answering from what the called tool returned."""
    drawn = draw(rng, rng.choice(TOOLS))
    messages = _user(_ask(rng, drawn.tool.requests, **drawn.slots))
    call = {"function": {"name": drawn.name, "arguments": drawn.arguments}}
    result = {"error": rng.choice(ERRORS)} if rng.random() < 0.06 else drawn.tool.result(rng, drawn.slots)
    content = json.dumps(result, ensure_ascii=False)
    messages += [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": content}]
    filled = drawn.slots | {f"r_{k}": v for k, v in result.items()}
    answer = f"The tool failed: {result['error']}." if "error" in result else drawn.tool.answers.format(**filled)
    return Item("tool result", messages, answer, f"result:{drawn.name}:{drawn.slots}:{content}", tools=_offer(rng, drawn, 3),
                check={"exact": answer})


EXTRACT = """Extract {f} as JSON: {s}|Extract {f} from this sentence as JSON: {s}|Give me {f} as JSON.\n{s}|{s}\nExtract {f} as JSON.|Return {f} as
JSON: {s}|From the text, extract {f} as JSON.\n\n{s}|Read this and give {f} in JSON: "{s}"|JSON with {f} for: {s}|Find {f} in "{s}" and
answer in JSON""".replace("\nJSON: {s}|From", " JSON: {s}|From").replace("\nanswer", " answer")


def extract_item(rng: random.Random) -> Item:
    """Some fields of a sentence as a JSON object."""
    record = rng.choice(RECORDS)
    slots = {name: make(rng) for name, make in record.slots.items()}
    form = rng.choice(record.sentences.split("|"))
    sentence = form.format(**slots)
    present = [name for name in slots if "{" + name + "}" in form]
    wanted = rng.sample(present, rng.randint(1, min(4, len(present))))
    names = wanted[0] if len(wanted) == 1 else ", ".join(wanted[:-1]) + rng.choice([" and ", ", "]) + wanted[-1]
    if rng.random() < 0.3:
        names = ("the " if len(wanted) == 1 else "the fields ") + names
    value = {name: slots[name] for name in wanted}
    text = rng.choice(EXTRACT.split("|")).format(f=names, s=sentence)
    return Item("extraction", _user(text), json.dumps(value, ensure_ascii=False), f"extract:{sentence}", check={"json": value})


def fact_item(rng: random.Random, skill: str) -> Item:
    """A question about sampan and mini, or small talk."""
    fact = rng.choice(ABOUT if skill == "about sampan" else CHAT)
    text = question(rng, fact)
    return Item(skill, _user(text), fact.answer, f"fact:{text.lower().strip(' ?.!')}", check={"exact": fact.answer, "words": list(fact.words)})


SKILLS = {
    "romaji to hiragana": lambda r: kana_item(r, True),
    "hiragana to romaji": lambda r: kana_item(r, False),
    "numbers in English": lambda r: number_item(r, "en"),
    "numbers in Italian": lambda r: number_item(r, "it"),
    "numbers in Japanese": lambda r: number_item(r, "ja"),
    "addition": lambda r: sum_item(r, False),
    "subtraction": lambda r: sum_item(r, True),
    "tool call": tool_item,
    "tool result": result_item,
    "no tool fits": unfit_item,
    "extraction": extract_item,
    "about sampan": lambda r: fact_item(r, "about sampan"),
    "small talk": lambda r: fact_item(r, "small talk"),
}
SHORT = ["romaji to hiragana", "hiragana to romaji", "numbers in English", "numbers in Italian", "numbers in Japanese", "about sampan",
         "small talk", "addition"]


def sample(rng: random.Random, skill: str, split: str = "train", plain: bool = False) -> Item:
    """One item of `skill` from `split`; `plain` leaves out system prompts, earlier turns and foreign tools."""
    while True:
        item = SKILLS[skill](rng)
        small = item.key.endswith("small")  # never held out and, for the figures' honesty, never tested either
        if (not small and held_out(item.key)) == (split == "held_out"):
            break
    sums = skill in ("addition", "subtraction")  # tested with their working; without it they are only trained along
    item.thinking = rng.random() < (0.9 if sums else 0.5) or (sums and split == "held_out")
    if not item.thinking and item.reasoning:  # the working is needed all the same: it becomes part of the answer
        item.answer, item.reasoning = f"{item.reasoning}\n\n{item.answer}", ""
    if plain:
        return item
    if skill in SHORT + ["extraction", "subtraction"]:
        if rng.random() < 0.07:
            item.messages = _earlier(rng) + item.messages
        if rng.random() < 0.04 and skill not in ("about sampan", "small talk"):
            item.tools = _offer(rng, None, 2)
    if rng.random() < 0.2:
        item.messages = [{"role": "system", "content": rng.choice(SYSTEMS)}] + item.messages
    return item


def _earlier(rng: random.Random) -> list[dict]:
    """One or two finished turns of short skills."""
    turns = []
    for _ in range(rng.choices([1, 2], [75, 25])[0]):
        item = sample(rng, rng.choice(SHORT), "train", plain=True)
        turns += item.messages + [{"role": "assistant", "content": item.answer}]
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=["train", "held_out"], default="train")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    for skill in SKILLS:
        for _ in range(args.count):
            item = sample(rng, skill, args.split)
            print(json.dumps(item.__dict__, ensure_ascii=False))


if __name__ == "__main__":
    main()
