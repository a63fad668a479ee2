"""The tools that mini learns to choose among: their specifications, requests, results and answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Callable

import lexicon as lx

Make = Callable[[random.Random], Any]


@dataclass(frozen=True)
class Tool:
    """One tool; every `|` separates aliases, one of which is drawn for each conversation."""

    names: str
    descriptions: str
    params: dict[str, tuple[str, Make]]  # aliases -> (JSON type, value maker), keyed by the slot's name
    aliases: dict[str, str]
    requests: str  # phrasings with {slot}
    result: Callable[[random.Random, dict], dict]
    answers: str  # one phrasing; {slot} from arguments, {r_key} from the result


def _int(low: int, high: int) -> Make:
    return lambda r: r.randint(low, high)


def _pick(words: list[str]) -> Make:
    return lambda r: r.choice(words)


S, I = "string", "integer"
TOOLS = [
    Tool("get_weather|weather|weather_lookup|current_weather", "Get the current weather in a city|Weather for a place",
         {"city": (S, lx.city)}, {"city": "city|location|place"},
         "What is the weather in {city}?|How is the weather in {city} today?|Weather in {city}, please|Tell me the weather for "
         "{city}|Is it sunny in {city}?|Do I need an umbrella in {city}?",
         lambda r, a: {"temperature": r.randint(-9, 39), "sky": r.choice(lx.WEATHER)},
         "In {city} it is {r_temperature} degrees and {r_sky}."),
    Tool("get_time|current_time|time_in_city|clock", "Get the local time in a city|Current time for a place",
         {"city": (S, lx.city)}, {"city": "city|location|place"},
         "What time is it in {city}?|Tell me the time in {city}|Current time in {city}?|What is the local time in {city}?",
         lambda r, a: {"time": f"{r.randint(0, 23):02}:{r.randint(0, 59):02}"}, "It is {r_time} in {city}."),
    Tool("set_timer|start_timer|timer|countdown", "Start a timer|Set a countdown in minutes",
         {"minutes": (I, _int(1, 99))}, {"minutes": "minutes|duration|length"},
         "Set a timer for {minutes} minutes|Start a {minutes} minute timer|Count down {minutes} minutes|Timer for {minutes} minutes, "
         "please", lambda r, a: {"status": "started"}, "The timer for {minutes} minutes has started."),
    Tool("set_alarm|wake_me|alarm|create_alarm", "Set an alarm|Set an alarm at a time",
         {"time": (S, lx.clock)}, {"time": "time|at|when"},
         "Wake me at {time}|Set an alarm for {time}|Alarm at {time}, please|I must get up at {time}, set an alarm",
         lambda r, a: {"status": "set"}, "The alarm is set for {time}."),
    Tool("add_reminder|remind|create_reminder|reminder", "Add a reminder|Remind the user of something",
         {"text": (S, lx.task), "time": (S, lx.clock)}, {"text": "text|task|note", "time": "time|at|when"},
         "Remind me to {text} at {time}|At {time} I have to {text}, remind me|Add a reminder at {time}: {text}|Do not let me forget "
         "to {text} at {time}", lambda r, a: {"status": "saved"}, "I will remind you to {text} at {time}."),
    Tool("convert_currency|exchange|currency|exchange_rate", "Convert an amount of money|Convert between currencies",
         {"amount": (I, _int(1, 999)), "from": (S, _pick(lx.CURRENCIES)), "to": (S, _pick(lx.CURRENCIES))},
         {"amount": "amount|value|sum", "from": "from|source", "to": "to|target"},
         "Convert {amount} {from} to {to}|How much is {amount} {from} in {to}?|Change {amount} {from} into {to}|What are {amount} "
         "{from} worth in {to}?", lambda r, a: {"result": r.randint(1, 9999)}, "{amount} {from} are {r_result} {to}."),
    Tool("translate|translate_text|translator|translation", "Translate text|Translate a text into a language",
         {"text": (S, lx.task), "language": (S, _pick(lx.LANGUAGES))}, {"text": "text|phrase|input", "language": "language|to|target"},
         "Translate \"{text}\" into {language}|How do you say \"{text}\" in {language}?|Put \"{text}\" into {language}|{language} for "
         "\"{text}\"?", lambda r, a: {"translation": " ".join(lx.kana_word(r, r.randint(2, 3))[0].replace("'", "") for _ in range(2))},
         "In {language} it is \"{r_translation}\"."),
    Tool("web_search|search|search_web|find_online", "Search the web|Look something up online",
         {"query": (S, lambda r: f"{r.choice(lx.THINGS)} {r.choice(lx.THINGS)}")}, {"query": "query|q|terms"},
         "Search the web for {query}|Look up {query} online|Find {query} on the web|Search for {query}",
         lambda r, a: {"title": f"The {r.choice(lx.THINGS)} of {lx.city(r)}"}, "I found \"{r_title}\"."),
    Tool("send_message|text_message|send_text|message", "Send a message to a person|Send someone a text",
         {"to": (S, lx.person), "text": (S, lambda r: f"{lx.task(r)}")}, {"to": "to|recipient|person", "text": "text|body|message"},
         "Send a message to {to}: {text}|Text {to} \"{text}\"|Write \"{text}\" to {to}|Message {to}: {text}",
         lambda r, a: {"status": "sent"}, "The message to {to} has been sent."),
    Tool("play_music|play|music_player|play_song", "Play music by an artist|Play songs",
         {"artist": (S, lx.person)}, {"artist": "artist|by|musician"},
         "Play some music by {artist}|Put on songs by {artist}|I want to hear {artist}|Play {artist}",
         lambda r, a: {"song": f"{r.choice(lx.THINGS)} {r.choice(lx.THINGS)}"}, "Now playing \"{r_song}\" by {artist}."),
    Tool("get_stock_price|stock_price|quote|share_price", "Get the price of a share|Stock price of a company",
         {"company": (S, lx.made_name)}, {"company": "company|name|ticker"},
         "What is the share price of {company}?|How much is {company} stock?|Stock price of {company}|Price of {company} shares?",
         lambda r, a: {"price": r.randint(1, 999)}, "A share of {company} costs {r_price}."),
    Tool("create_event|add_event|calendar|schedule", "Add an event to the calendar|Create a calendar entry",
         {"title": (S, lambda r: f"{r.choice(lx.THINGS)} {r.choice(['lesson', 'meeting', 'party', 'show', 'course'])}"),
          "date": (S, lx.date)}, {"title": "title|name|event", "date": "date|day|on"},
         "Put the {title} on {date} in my calendar|Add {title} to my calendar on {date}|Schedule {title} for {date}|Create an event: "
         "{title}, {date}", lambda r, a: {"status": "added"}, "The {title} is in your calendar on {date}."),
    Tool("book_table|reserve_table|table_booking|book_restaurant", "Book a table at a restaurant|Reserve a table",
         {"restaurant": (S, lx.made_name), "people": (I, _int(2, 12))}, {"restaurant": "restaurant|place|name", "people": "people|guests|size"},
         "Book a table for {people} at {restaurant}|Reserve a table at {restaurant} for {people} people|We are {people}, get us a table "
         "at {restaurant}|Table for {people} at {restaurant}, please",
         lambda r, a: {"time": lx.clock(r)}, "Your table for {people} at {restaurant} is booked for {r_time}."),
    Tool("switch_light|light|set_light|lamp", "Switch a light on or off|Control the lights",
         {"room": (S, _pick(lx.ROOMS)), "state": (S, _pick(["on", "off"]))}, {"room": "room|where|place", "state": "state|power|mode"},
         "Turn {state} the light in the {room}|Switch the {room} light {state}|Light {state} in the {room}, please|{room} light {state}",
         lambda r, a: {"status": "done"}, "The light in the {room} is {state}."),
    Tool("get_directions|route|directions|find_route", "Find the way between two places|Directions from one place to another",
         {"from": (S, lx.city), "to": (S, lx.city)}, {"from": "from|start|origin", "to": "to|end|destination"},
         "How do I get from {from} to {to}?|Route from {from} to {to}|Show me the way from {from} to {to}|Directions to {to} from {from}",
         lambda r, a: {"km": r.randint(2, 999)}, "From {from} to {to} it is {r_km} km."),
    Tool("define|dictionary|define_word|lookup_word", "Define a word|Look a word up in the dictionary",
         {"word": (S, _pick(lx.THINGS))}, {"word": "word|term|entry"},
         "What does {word} mean?|Define {word}|Look up {word} in the dictionary|Give me the definition of {word}",
         lambda r, a: {"definition": f"a kind of {r.choice(lx.THINGS)}"}, "{word}: {r_definition}."),
]


@dataclass
class Drawn:
    """A tool with its aliases drawn and its arguments filled in."""

    tool: Tool
    name: str
    spec: dict
    slots: dict[str, Any]
    arguments: dict[str, Any]


def draw(rng: random.Random, tool: Tool) -> Drawn:
    """Draws names, an order of parameters and argument values for `tool`."""
    name = rng.choice(tool.names.split("|"))
    if rng.random() < 0.08:  # an unheard name: choose by the description, copy the name
        name = lx.kana_word(rng, 2)[0].replace("'", "") + rng.choice(["", "_tool", "_v2", "_api"])
    slots = {slot: make(rng) for slot, (_, make) in tool.params.items()}
    if "from" in slots and slots["from"] == slots["to"]:
        return draw(rng, tool)
    order = list(tool.params)
    if rng.random() < 0.4:
        rng.shuffle(order)
    keys = {slot: rng.choice(tool.aliases[slot].split("|")) for slot in order}
    properties = {keys[s]: {"type": tool.params[s][0]} for s in order}
    spec = {"type": "function", "function": {
        "name": name, "description": rng.choice(tool.descriptions.split("|")),
        "parameters": {"type": "object", "properties": properties, "required": list(properties)}}}
    return Drawn(tool, name, spec, slots, {keys[s]: slots[s] for s in order})
