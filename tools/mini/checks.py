"""Judges an answer by program."""

from __future__ import annotations

import json
import re

from data import Item


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a raw generation."""
    if "</think>" not in text:
        return "", text.strip()
    reasoning, answer = text.split("</think>", 1)
    return reasoning.split("<think>")[-1].strip(), answer.strip()


def right(item: Item, reasoning: str, answer: str) -> bool:
    """Whether `answer` (and for sums its working) is correct."""
    check = item.check
    if "exact" in check and not check.get("words"):
        return answer == check["exact"]
    if "words" in check:
        return all(word.lower() in answer.lower() for word in check["words"])
    if "json" in check:
        return _loads(answer) == check["json"]
    if "call" in check:
        found = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", answer, re.DOTALL)
        return len(found) == 1 and _loads(found[0]) == check["call"]
    numbers = re.findall(r"-?\d+", answer.split("=")[-1])
    if not numbers or int(numbers[-1]) != check["result"]:
        return False
    return not item.thinking or _working_holds(reasoning)


def _working_holds(reasoning: str) -> bool:
    """Every column written in the working must be true arithmetic, and there must be one."""
    columns = re.findall(r": (?:borrow 1, )?([\d +-]+) = (\d+)", reasoning)
    return bool(columns) and all(_evaluate(left) == int(value) for left, value in columns)


def _evaluate(text: str) -> int:
    total = 0
    for sign, digits in re.findall(r"([+-]?) ?(\d+)", text):
        total += -int(digits) if sign == "-" else int(digits)
    return total


def _loads(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
