"""Sentences from which fields are extracted."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Callable

import lexicon as lx


@dataclass(frozen=True)
class Record:
    """Slots, and sentences that hold all or some of them (separated by `|`)."""

    slots: dict[str, Callable[[random.Random], Any]]
    sentences: str


def _email(rng: random.Random) -> str:
    return f"{rng.choice(lx.FIRST).lower()}{rng.choice(['', '.', '_'])}{rng.choice(lx.LAST).lower()}@{rng.choice(lx.THINGS)}.{rng.choice(['com', 'org', 'it', 'net'])}"


def _phone(rng: random.Random) -> str:
    return "".join(str(rng.randint(0, 9)) for _ in range(3)) + "-" + "".join(str(rng.randint(0, 9)) for _ in range(4))


RECORDS = [
    Record({"name": lx.person, "age": lambda r: r.randint(18, 99), "city": lx.city, "job": lambda r: r.choice(lx.JOBS)},
           "{name} is {age} years old and lives in {city}.|{name}, {age}, works as a {job} in {city}.|My name is {name}, I am {age} and I am a "
           "{job} from {city}.|{name} moved to {city} at the age of {age}.|The {job} {name} ({age}) was born in {city}.|In {city} we met {name}, "
           "a {job} of {age}.|{name} from {city} has been a {job} for years."),
    Record({"item": lambda r: r.choice(lx.GOODS), "quantity": lambda r: r.randint(2, 99), "price": lambda r: r.randint(1, 999),
            "customer": lx.person},
           "{customer} ordered {quantity} {item} for {price} euros.|Please send {quantity} {item} to {customer}, total {price} dollars.|We sold "
           "{quantity} {item} to {customer} at {price} each.|Order from {customer}: {quantity} {item}, {price} euros.|{quantity} {item} cost {price} "
           "dollars.|{customer} paid {price} euros for {quantity} {item}."),
    Record({"title": lambda r: f"{r.choice(lx.THINGS)} {r.choice(['fair', 'concert', 'meeting', 'class', 'night'])}", "date": lx.date,
            "time": lx.clock, "city": lx.city},
           "The {title} is on {date} at {time} in {city}.|Join the {title} in {city} on {date}, doors open at {time}.|On {date} at {time} there is a "
           "{title}.|{title}: {date}, {time}, {city}.|{city} hosts a {title} on {date}.|Do not miss the {title}, {date} at {time}!"),
    Record({"name": lx.person, "email": _email, "phone": _phone},
           "Contact {name} at {email} or {phone}.|Write to {email}, or call {name} on {phone}.|{name}'s phone is {phone} and the email is {email}.|"
           "{name} ({email}, {phone}) will answer.|You can reach {name} by email: {email}.|Call {name}: {phone}."),
    Record({"name": lx.person, "from": lx.city, "to": lx.city, "date": lx.date},
           "{name} flies from {from} to {to} on {date}.|On {date} {name} takes the train from {from} to {to}.|Ticket for {name}: {from} to {to}, "
           "{date}.|{name} leaves {from} on {date} and travels to {to}.|A bus brings {name} to {to} from {from}."),
]
