"""Words, kana and number names that the conversation generator draws from.

Everything here is written by hand or made from syllables, so that the training data has no outside source.
"""

from __future__ import annotations

import random
from functools import lru_cache

VOWELS = "aiueo"
_ROWS = {
    "": "あいうえお", "k": "かきくけこ", "s": "さしすせそ", "t": "たちつてと", "n": "なにぬねの",
    "h": "はひふへほ", "m": "まみむめも", "r": "らりるれろ", "g": "がぎぐげご", "z": "ざじずぜぞ",
    "b": "ばびぶべぼ", "p": "ぱぴぷぺぽ",
}
_IRREGULAR = {"si": "shi", "ti": "chi", "tu": "tsu", "hu": "fu", "zi": "ji"}
# Hepburn; ぢ and づ are left out because they sound like じ and ず, so that romaji would be ambiguous.
PLAIN = {_IRREGULAR.get(c + v, c + v): kana for c, row in _ROWS.items() for v, kana in zip(VOWELS, row)}
PLAIN |= {"ya": "や", "yu": "ゆ", "yo": "よ", "wa": "わ", "wo": "を", "da": "だ", "de": "で", "do": "ど"}
_GLIDES = {"ky": "き", "sh": "し", "ch": "ち", "ny": "に", "hy": "ひ", "my": "み", "ry": "り", "gy": "ぎ", "j": "じ",
           "by": "び", "py": "ぴ"}
GLIDES = {c + v: kana + small for c, kana in _GLIDES.items() for v, small in zip("auo", "ゃゅょ")}
SYLLABLES = PLAIN | GLIDES
_PLAIN, _GLIDE = list(PLAIN), list(GLIDES)
REAL_WORDS = """sakura sushi arigatou konbanwa ohayou sayounara tokyo kyouto oosaka sapporo nihon nihongo kippu zasshi
matcha ramen udon tenpura sensei gakusei gakkou densha jitensha hikouki yama kawa umi sora hoshi tsuki taiyou hana inu neko
tori sakana kuruma tomodachi kazoku otousan okaasan imouto otouto ringo mikan budou ichigo tamago gohan misoshiru ocha
shinbun hon'ya kin'youbi getsuyoubi ryokou ryouri byouin eki ginkou shashin ongaku eiga denwa tokei kasa boushi kutsu
watashi anata kare kanojo kyou ashita kinou asa hiru yoru fuyu natsu haru aki yuki ame kaze kumo hikari kage""".split()


def kana_word(rng: random.Random, units: int) -> tuple[str, str]:
    """One made-up word of `units` syllables as (romaji, hiragana)."""
    romaji, kana = "", ""
    for i in range(units):
        syllable = rng.choice(_GLIDE) if rng.random() < 0.15 else rng.choice(_PLAIN)
        if romaji.endswith("n") and kana.endswith("ん") and syllable[0] in VOWELS + "y":
            romaji += "'"
        if i and syllable[0] in "kstpc" and not kana.endswith("ん") and rng.random() < 0.15:
            romaji, kana = romaji + ("t" if syllable[0] == "c" else syllable[0]), kana + "っ"
        romaji, kana = romaji + syllable, kana + SYLLABLES[syllable]
        if rng.random() < 0.12:
            romaji, kana = romaji + "n", kana + "ん"
    return romaji, kana


def to_kana(romaji: str) -> str:
    """Hepburn romaji of one word to hiragana."""
    kana, i = "", 0
    while i < len(romaji):
        rest = romaji[i:]
        size = next((n for n in (3, 2, 1) if rest[:n] in SYLLABLES), 0)
        if size:
            kana, i = kana + SYLLABLES[rest[:size]], i + size
        elif rest[0] == "n":
            kana, i = kana + "ん", i + (2 if rest[1:2] == "'" else 1)
        elif rest[:2] == "tc" or rest[0] == rest[1:2]:
            kana, i = kana + "っ", i + 1
        else:
            raise ValueError(f"not Hepburn romaji: {romaji!r} at {i}")
    return kana


@lru_cache(1)
def _units() -> tuple[frozenset[str], frozenset[str]]:
    """The units that romaji is made of, and every piece of one."""
    doubled = {("t" if s[0] == "c" else s[0]) + s for s in SYLLABLES if s[0] in "kstpc"}
    whole = frozenset(SYLLABLES) | {"n", "n'"} | doubled
    return whole, frozenset(s[j:k] for s in whole for j in range(len(s)) for k in range(j + 1, len(s) + 1))


@lru_cache(None)
def is_romaji_part(text: str) -> bool:
    """Whether `text` can occur inside a romaji word: the tokenizer keeps such strings in single characters."""
    text = text.lower()
    whole, pieces = _units()
    if text in pieces:
        return True
    reach, seen = [len(s) for s in pieces if text.startswith(s)], set()  # a piece first: the tail of some unit
    while reach:
        at = reach.pop()
        if at in seen:
            continue
        seen.add(at)
        if any(s.startswith(text[at:]) for s in whole):
            return True
        reach += [at + len(s) for s in whole if text.startswith(s, at)]
    return False


_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen""".split()
_TENS = ". . twenty thirty forty fifty sixty seventy eighty ninety".split()
_UNO = """zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici
diciassette diciotto diciannove""".split()
_VENTI = ". . venti trenta quaranta cinquanta sessanta settanta ottanta novanta".split()
_KANJI = "零一二三四五六七八九"


def english(n: int) -> str:
    """0 to 9999 in English words, American style (no "and")."""
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _TENS[n // 10] + (f"-{_ONES[n % 10]}" if n % 10 else "")
    size, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    return f"{_ONES[n // size]} {name}" + (f" {english(n % size)}" if n % size else "")


def italian(n: int) -> str:
    """0 to 9999 in Italian words, in one word as usual."""
    return _italian(n) if n in (0, 3) else _italian(n)[:-3] + "tré" if n % 10 == 3 and n % 100 != 13 else _italian(n)


def _italian(n: int) -> str:
    if n < 20:
        return _UNO[n]
    if n < 100:
        tens, one = _VENTI[n // 10], n % 10
        return (tens[:-1] if one in (1, 8) else tens) + (_UNO[one] if one else "")
    if n < 1000:
        head, rest = ("" if n < 200 else _UNO[n // 100]) + "cento", n % 100
        return head if not rest else (head[:-1] if rest == 8 or rest // 10 == 8 else head) + _italian(rest)
    head = "mille" if n < 2000 else _UNO[n // 1000] + "mila"
    return head + (_italian(n % 1000) if n % 1000 else "")


def japanese(n: int) -> str:
    """0 to 9999 in kanji."""
    if n == 0:
        return _KANJI[0]
    parts = ((n // 1000, "千"), (n // 100 % 10, "百"), (n // 10 % 10, "十"))
    text = "".join(("" if d == 1 else _KANJI[d]) + unit for d, unit in parts if d)
    return text + (_KANJI[n % 10] if n % 10 else "")


FIRST = """Anna Marco Giulia Luca Sofia Paolo Chiara Matteo Elena Davide Sara Andrea Laura Pietro Marta Carlo Emma James
Olivia William Ava Henry Mia Jack Grace Leo Ruth Oscar Alice Peter Nora Simon Julia Felix Clara Hugo Ines Pablo Carmen
Diego Lucia Miguel Yuki Haruto Sakura Kenji Aiko Ren Hana Daichi Naoko Takumi Wei Mei Jun Ling Priya Arjun Anita Omar
Layla Karim Fatima Ivan Olga Dmitri Katya Lars Ingrid Erik Astrid Jan Eva Tomas Zuzana Ahmed Amina Kofi Ama Thabo
Zola Joao Beatriz Rui Pierre Camille Louis Margot Hans Greta Klaus Heidi Dario Bianca Enzo Rosa Victor Irene""".split()
LAST = """Rossi Bianchi Ferrari Romano Ricci Marino Greco Conti Moretti Barbieri Smith Jones Brown Taylor Wilson Evans
Thomas Walker Wright Hughes Tanaka Suzuki Sato Watanabe Yamamoto Kobayashi Ito Kimura Chen Wang Zhang Kumar Sharma Patel
Silva Costa Santos Garcia Lopez Martin Bernard Dubois Schmidt Weber Fischer Novak Ivanova Petrov Hansen Larsen""".split()
CITIES = """Rome Milan Turin Naples Florence Venice Genoa Bologna Palermo Paris Lyon Nice London Oxford Leeds Dublin
Berlin Hamburg Munich Vienna Zurich Geneva Madrid Seville Valencia Lisbon Porto Athens Prague Warsaw Oslo Stockholm
Helsinki Copenhagen Tokyo Osaka Kyoto Nagoya Sapporo Seoul Beijing Shanghai Delhi Mumbai Cairo Lagos Nairobi Accra Boston
Chicago Denver Seattle Dallas Miami Toronto Montreal Lima Bogota Santiago Sydney Perth Auckland""".split()
JOBS = """teacher nurse baker engineer farmer pilot lawyer painter doctor gardener cook singer driver plumber carpenter
writer dentist chemist tailor sailor florist librarian electrician photographer""".split()
GOODS = """apples pears lemons chairs lamps notebooks pencils candles carpets mirrors bottles cups plates towels pillows
shirts hats gloves boots socks umbrellas clocks batteries cables keyboards speakers tents bicycles helmets flowers""".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
TASKS_VERB = "buy call water clean pay fix feed wash book renew return check collect print pack".split()
TASKS_NOUN = """the plants the car the dentist the rent the cat the dog the bike the windows the tickets the passport the
books the milk the bread the shirt the kitchen the garden the printer the mail the bags the report""".replace(
    "\n", " ").split(" the ")
TASKS_NOUN = ["the " + n.removeprefix("the ") for n in TASKS_NOUN]
THINGS = """mountain river candle volcano pepper coffee violin planet garden bridge castle island desert ocean forest
engine rocket whale falcon tiger pizza bread cheese honey chocolate history painting music chess football tennis opera poetry
medicine glass silk paper gold silver copper amber coral pearl""".split()
LANGUAGES = "French German Spanish Italian Japanese Korean Chinese Arabic Hindi Russian Greek Dutch Polish Turkish".split()
CURRENCIES = "dollars euros pounds yen francs rupees pesos won".split()
ROOMS = "kitchen bedroom bathroom office garage hallway garden cellar attic studio".split()
WEATHER = "sunny cloudy rainy windy foggy snowy stormy clear humid".split()


def made_name(rng: random.Random) -> str:
    """A capitalised word of random syllables: forces the model to copy rather than to remember."""
    return kana_word(rng, rng.randint(2, 4))[0].replace("'", "").capitalize()


def person(rng: random.Random) -> str:
    """A first name, often with a family name."""
    first = made_name(rng) if rng.random() < 0.15 else rng.choice(FIRST)
    last = made_name(rng) if rng.random() < 0.15 else rng.choice(LAST)
    return f"{first} {last}" if rng.random() < 0.5 else first


def city(rng: random.Random) -> str:
    """A city, sometimes a made-up one."""
    return made_name(rng) if rng.random() < 0.15 else rng.choice(CITIES)


def date(rng: random.Random) -> str:
    """A date as people write it."""
    month, day = rng.choice(MONTHS), rng.randint(1, 28)
    return rng.choice([f"{month} {day}", f"{day} {month}", f"2026-{rng.randint(1, 12):02}-{day:02}", rng.choice(DAYS)])


def clock(rng: random.Random) -> str:
    """A time of day."""
    hour, minute = rng.randint(0, 23), rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50])
    return rng.choice([f"{hour:02}:{minute:02}", f"{hour % 12 + 1}:{minute:02}", f"{hour % 12 + 1} {rng.choice(['am', 'pm'])}"])


def task(rng: random.Random) -> str:
    """A small errand."""
    return f"{rng.choice(TASKS_VERB)} {rng.choice(TASKS_NOUN)}"
