"""Plain Korean sentences built from templates, with their English: the everyday words that the corpus lacks.

A subject goes to, is at, or does something at a place; or likes, buys, eats or drinks a thing. Particles follow the
final consonant of the word before them, so that every sentence is correct Korean.
"""

import itertools
from collections.abc import Iterator

SUBJECTS = [
    ("나", "I"), ("저", "I"), ("우리", "We"), ("그", "He"), ("그녀", "She"), ("톰", "Tom"), ("메리", "Mary"),
    ("학생", "The student"), ("선생님", "The teacher"), ("친구", "My friend"), ("어머니", "My mother"),
    ("아버지", "My father"), ("형", "My brother"), ("아이", "The child"), ("의사", "The doctor"),
]  # fmt: skip
PLACES = [
    ("카페", "cafe"), ("학교", "school"), ("도서관", "library"), ("병원", "hospital"), ("시장", "market"),
    ("공원", "park"), ("식당", "restaurant"), ("은행", "bank"), ("우체국", "post office"), ("역", "station"),
    ("공항", "airport"), ("호텔", "hotel"), ("극장", "theater"), ("박물관", "museum"), ("사무실", "office"),
    ("서점", "bookstore"), ("가게", "store"), ("교회", "church"), ("약국", "pharmacy"), ("바다", "sea"),
]  # fmt: skip
TIMES = [
    ("", ""), ("어제 ", " yesterday"), ("오늘 ", " today"), ("오늘 아침에 ", " this morning"),
    ("지난주에 ", " last week"),
]  # fmt: skip
GOING = [("갔다", "went to"), ("갔어요", "went to"), ("갔습니다", "went to"), ("도착했다", "arrived at")]
DOING = [
    ("친구를 만났다", "met a friend"), ("책을 읽었다", "read a book"), ("커피를 마셨다", "drank coffee"),
    ("일했다", "worked"), ("점심을 먹었다", "had lunch"), ("기다렸다", "waited"), ("공부했어요", "studied"),
]  # fmt: skip
THINGS = [
    ("사과", "apples"), ("책", "books"), ("음악", "music"), ("영화", "movies"), ("고양이", "cats"), ("개", "dogs"),
    ("꽃", "flowers"), ("빵", "bread"), ("물", "water"), ("커피", "coffee"), ("차", "tea"), ("우유", "milk"),
    ("카페", "cafes"), ("여행", "traveling"), ("축구", "soccer"), ("김치", "kimchi"), ("수학", "math"),
]  # fmt: skip
LIKING = [("좋아했다", "liked"), ("좋아했어요", "liked"), ("싫어했다", "disliked"), ("사랑했다", "loved")]
STATES = [
    ("크다", "is big"), ("작다", "is small"), ("조용하다", "is quiet"), ("멀다", "is far away"), ("좋다", "is nice"),
    ("가깝다", "is near"), ("문을 닫았다", "is closed"), ("문을 열었다", "is open"),
]  # fmt: skip


def with_particle(word: str, after_consonant: str, after_vowel: str) -> str:
    """Append the particle that fits the word's last syllable (Hangul syllables are 28 apart per vowel)."""
    return word + (after_consonant if (ord(word[-1]) - 0xAC00) % 28 else after_vowel)


def _topic(word: str) -> str:
    return with_particle(word, "은", "는")


def sentences() -> Iterator[tuple[str, str]]:
    """Yield every (Korean, English) sentence of the templates, in a fixed order."""
    for (subject, who), (place, where), (when, at) in itertools.product(SUBJECTS, PLACES, TIMES):
        for verb, went in GOING:
            yield f"{_topic(subject)} {when}{place}에 {verb}.", f"{who} {went} the {where}{at}."
        for deed, did in DOING:
            yield f"{_topic(subject)} {when}{place}에서 {deed}.", f"{who} {did} at the {where}{at}."
    for (subject, who), (thing, what), (verb, felt) in itertools.product(SUBJECTS, THINGS, LIKING):
        yield f"{_topic(subject)} {with_particle(thing, '을', '를')} {verb}.", f"{who} {felt} {what}."
    for (place, where), (state, is_so) in itertools.product(PLACES, STATES):
        yield f"{with_particle(place, '이', '가')} {state}.", f"The {where} {is_so}."
        yield f"그 {_topic(place)} {state}.", f"The {where} {is_so}."
    for place, where in PLACES:
        yield f"{with_particle(place, '이', '가')} 어디에 있어요?", f"Where is the {where}?"
        yield f"여기에서 {place}까지 어떻게 가요?", f"How do I get to the {where} from here?"
        yield f"{place}에 가고 싶어요.", f"I want to go to the {where}."
        yield f"{place}에 가자.", f"Let's go to the {where}."
