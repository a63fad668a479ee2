"""Trains mini's byte-level BPE and renders its chat format.

The pre-tokenizer is Qwen2's, so any engine that knows Qwen knows it. Merges are restricted on purpose: what can occur inside
romaji, every kana and every digit stays a token of its own, and a word has the same tokens with or without a space before it
(copying a name into JSON is then a plain repetition). Only frequent words of the phrasings take their space along.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from functools import lru_cache
from pathlib import Path

import jinja2
import regex
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

import data
import lexicon as lx

HERE = Path(__file__).parent
SIZE = 1024
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHARACTERS = sorted(set("".join(lx.SYLLABLES.values())) | set("っんー「」、。？！零一二三四五六七八九十百千漢字書数日本語ローマéèàòù→"))


def _byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


LETTERS = _byte_letters()
BYTES = {c: b for b, c in LETTERS.items()}


def template_text() -> str:
    """The chat template as it is shipped."""
    return (HERE / "template.jinja").read_text()


@lru_cache(1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(template_text())


def prompt_text(item: data.Item) -> str:
    """The rendered conversation up to where mini speaks."""
    extra = {} if item.thinking else {"enable_thinking": False}
    return _template().render(messages=item.messages, tools=item.tools, add_generation_prompt=True, **extra)


def answer_text(item: data.Item) -> str:
    """What mini should write after the prompt."""
    think = f"<think>\n{item.reasoning}\n</think>\n\n" if item.thinking else ""
    return f"{think}{item.answer}<|im_end|>"


def _value_words() -> set[str]:
    lists = [lx.TASKS_VERB, lx.TASKS_NOUN, lx.THINGS, lx.GOODS, lx.JOBS, lx.ROOMS, lx.WEATHER, lx.CURRENCIES]
    return {w for words in lists for entry in words for w in entry.split()} - {"the"}


def _count(samples: int, seed: int) -> Counter:
    rng, words = random.Random(seed), Counter()
    marks = regex.compile("|".join(map(regex.escape, CONTROL + MARKS)))
    for i in range(samples):
        item = data.sample(rng, list(data.SKILLS)[i % len(data.SKILLS)])
        for part in marks.split(prompt_text(item) + answer_text(item)):
            words.update(regex.findall(PATTERN, part))
    return words


def _allowed(text: str, spaced: set[str]) -> bool:
    """Whether a token may spell `text` (ASCII)."""
    if not any(c.isalpha() for c in text):
        return not any(c.isdigit() for c in text)
    if text[0] == " ":
        return text[1:] in spaced
    if text[0] in "-_":
        return text[1:].islower() and text[1:].isalpha()
    return text.isalpha() and not lx.is_romaji_part(text)


def train(samples: int = 24000, seed: int = 7) -> tuple[list[str], list[tuple[str, str]]]:
    """The vocabulary (without special tokens) and the merges, in order of rank."""
    words = _count(samples, seed)
    vocab, merges = [LETTERS[b] for b in range(256)], []

    def add(left: str, right: str) -> None:
        if left + right not in vocab:
            vocab.append(left + right)
            merges.append((left, right))

    for character in CHARACTERS:
        letters = [LETTERS[b] for b in character.encode()]
        for end in range(2, len(letters) + 1):
            add("".join(letters[:end - 1]), letters[end - 1])
    values = _value_words()
    spaced = {w[1:] for w, n in words.items() if n >= 60 and w[0] == " " and w[1:].isalpha() and w[1:].islower() and w.isascii()}
    spaced = {w for w in spaced if not lx.is_romaji_part(w)} - values
    pieces = {w: [LETTERS[b] for b in w.encode()] for w in words if w.isascii()}
    while len(vocab) < SIZE - len(CONTROL) - len(MARKS):
        pairs: Counter = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        good = [(n, p) for p, n in pairs.items() if _allowed(bytes(BYTES[c] for c in p[0] + p[1]).decode(), spaced)]
        _, best = max(good)
        add(*best)
        for word, parts in pieces.items():
            if best[0] in parts:
                pieces[word] = _merge(parts, best)
    return vocab, merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged, i = [], 0
    while i < len(parts):
        if tuple(parts[i:i + 2]) == pair:
            merged, i = merged + [parts[i] + parts[i + 1]], i + 2
        else:
            merged, i = merged + [parts[i]], i + 1
    return merged


def build(vocab: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
    """A Hugging Face tokenizer from a vocabulary and merges."""
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocab)}, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in MARKS])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out" / "tokenizer.json")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = build(*train())
    tokenizer.save(str(args.out))
    rng = random.Random(1)
    for skill in data.SKILLS:
        items = [data.sample(rng, skill) for _ in range(200)]
        asked = [len(tokenizer.encode(prompt_text(i)).ids) for i in items]
        said = [len(tokenizer.encode(answer_text(i)).ids) for i in items]
        print(f"{skill:22} prompt {sum(asked) / 200:6.1f} (most {max(asked)})  answer {sum(said) / 200:6.1f} (most {max(said)})")
    shown = tokenizer.encode(prompt_text(items[0]) + answer_text(items[0])).tokens
    print(tokenizer.get_vocab_size(), shown)


if __name__ == "__main__":
    main()
