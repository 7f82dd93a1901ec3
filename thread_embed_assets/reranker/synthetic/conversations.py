"""One simulated user's chat with an assistant: threads that interleave over days, message by message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import NEW_THREAD, Thread, Tier
from thread_embed_assets.reranker.features import thread_text
from thread_embed_assets.reranker.synthetic.people import Profile, name_like, values
from thread_embed_assets.reranker.synthetic.wording import Facet, Topic, Wording, keys, wordings

# What the assistant's last line of a thread hands over or asks; what of the topic it needs for that.
STATES = {
    "options": "choices",
    "draft": "drafts",
    "fix": "actions",
    "steps": "actions",
    "offer": "offers",
    "number": "numbers",
    "date": "dates",
    "amount": "costs",
    "waiting": "",
    "explained": "explains",
}
# Replies to the first would make sense after the others, too.
ALSO_FITS = {"fix": ("steps",), "steps": ("fix",), "explained": ("fix", "steps")}
_ONLY_OF = {"fix": "troubleshoot"}  # a state that makes sense in topics of one type
_HEARD = {"yes": "request", "give": "answer"}  # the assistant takes these up as it does the others
_ABOUT = ("ask_status", "recall", "update", "request", "worry")

_START = 1_735_718_400  # 2025-01-01 08:00 UTC
_THREADS = (4, 12)
_TURNS = 3.1  # user messages of a thread, on average, after its first
_TIERS: dict[Tier, float] = {"easy": 0.3, "medium": 0.35, "hard": 0.35}
_NEWEST_SHARE = {"easy": 0.25, "medium": 0.25, "hard": 0.4}  # of messages that go on with the thread that was last active
_HARD_HOURS, _HARD_RANKS, _CHATTY_HOURS = 48.0, 5, 1.0
_SHARED_NAME, _SAME_TOPIC, _SIDE = 0.2, 0.2, 0.3
_NEW_PREFIX, _RETURN_PREFIX = 0.2, 0.12
_FACT, _TOLD, _WHOLE, _SAID_OF_WHAT = 0.5, 0.45, 0.4, 0.35


@dataclass(frozen=True)
class Turn:
    """A message of the user, before it belongs to anything.

    Attributes:
        thread: that it continues, or ``NEW_THREAD``.
        wordings: ids of all wordings that it was made from, with ``+`` between them.
        threads: all that were open before it, the one last active first.
    """

    message: Message
    tier: Tier
    thread: str
    wordings: str
    threads: Sequence[Thread]


@dataclass
class _Open:
    id: str
    topic: Topic
    thing: str
    subject: str
    slots: dict[str, str]
    messages: list[Message] = field(default_factory=list)
    said: dict[str, tuple[Facet, str]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    state: str = ""
    last: int = 0  # number of messages in the chat up to its last one


@dataclass
class _Written:
    """A text under way, and the wordings that went into it."""

    text: str = ""
    used: list[str] = field(default_factory=list)

    def put(self, wording: Wording, text: str) -> None:
        self.text = f"{self.text} {text}".strip()
        self.used.append(wording.id)

    def begin_with(self, wording: Wording, text: str) -> None:
        self.text = f"{text} {self.text}"
        self.used.append(wording.id)


class Chat:
    """The chat of one user; a user writes the same in every build."""

    def __init__(self, profile: Profile) -> None:
        self._who = profile
        self._draw = Random(profile.seed)
        self._threads: list[_Open] = []
        self._time = _START + self._draw.randrange(300 * 24 * 60) * 60.0
        self._count = 0

    def turns(self) -> Iterator[Turn]:
        """Every message of the user in time order, the first one excepted: before it there is nothing."""
        wanted = self._draw.randint(*_THREADS)
        left = wanted + round(wanted * self._draw.uniform(0.8, 1.2) * _TURNS)
        while left:
            gap = self._wait()
            to_open = wanted - len(self._threads)
            opens = not self._threads or self._draw.random() < 1.6 * to_open / left
            turn = self._open() if opens else self._go_on(gap)
            if turn.threads:
                yield turn
            left -= 1

    def _wait(self) -> float:
        """Hours until the next message, whatever it will be about."""
        draw = self._draw.random()
        minutes = self._draw.lognormvariate(1.2, 0.8) if draw < 0.6 else self._draw.uniform(20, 240)
        if draw > 0.9:
            minutes += 60 * self._draw.uniform(10, 40)
        before = self._time
        self._time += 60 * minutes
        hour = self._time // 3600 % 24
        if hour < 7 or hour > 22:
            self._time += (7 - hour) % 24 * 3600 + self._draw.uniform(0, 3 * 3600)
        return (self._time - before) / 3600

    def _open(self) -> Turn:
        threads = self._seen()
        topic = self._new_topic()
        thread = _Open(
            f"{self._who.id}-{len(self._threads) + 1}",
            topic,
            self._name_for(topic),
            self._draw.choice(topic.subjects),
            values(self._draw),
        )
        written = _Written()
        need = self._draw.choice(topic.needs[self._who.split])
        slots = {"need": need.write(self._draw, {"e": thread.thing})}
        told = self._draw.random() < _TOLD
        if told:
            slots["said"] = self._say(thread, written)
        self._put(written, self._pick("opening", "told" if told else "plain"), slots)
        written.used.append(need.id)
        self._lead_in(written, "new_prefix", _NEW_PREFIX if threads else 0.0)
        tier: Tier = "medium" if self._is_shared(thread) else "easy"
        self._threads.append(thread)
        return self._send(thread, NEW_THREAD, tier, written, "open", threads)

    def _go_on(self, gap: float) -> Turn:
        tier = self._draw.choices(list(_TIERS), list(_TIERS.values()))[0]
        ranked = sorted(self._threads, key=lambda thread: -thread.last)
        possible = {
            "hard": [t for rank, t in enumerate(ranked[:_HARD_RANKS]) if self._is_clear(t, ranked[:rank])],
            "medium": [thread for thread in ranked if self._referable(thread)],
            "easy": ranked,
        }
        if not possible[tier]:
            tier = "easy"
        thread = self._one_of(possible[tier], ranked, _NEWEST_SHARE[tier])
        written = _Written()
        if tier == "hard":
            act = self._reply(thread, written, chatty=thread is ranked[0] and gap < _CHATTY_HOURS)
        else:
            act = self._name(thread, written) if tier == "easy" else self._refer(thread, written)
            tier = "medium" if self._is_shared(thread) else tier
            self._lead_in(written, "return_prefix", 0.0 if thread is ranked[0] else _RETURN_PREFIX)
        return self._send(thread, thread.id, tier, written, act, self._seen())

    def _is_clear(self, thread: _Open, newer: Sequence[_Open]) -> bool:
        """Whether a reply to its last line can be meant for no thread that was active since."""
        if newer and (self._time - (thread.messages[-1].time or 0)) / 3600 > _HARD_HOURS:
            return False
        return {thread.state, *ALSO_FITS.get(thread.state, ())}.isdisjoint(other.state for other in newer)

    def _one_of(self, possible: Sequence[_Open], ranked: Sequence[_Open], newest_share: float) -> _Open:
        """One of them: the newest by its share, the others the likelier the newer."""
        others = [thread for thread in possible if thread is not ranked[0]]
        if possible[0] is ranked[0] and (not others or self._draw.random() < newest_share):
            return ranked[0]
        return self._draw.choices(others, [1 / (2 + place) for place in range(len(others))])[0]

    def _referable(self, thread: _Open) -> list[Wording]:
        """Other words for what it is about, and for what it says that is still to be read, if that is true of it alone; none
        that were used before.
        """
        others = [other for other in self._threads if other is not thread]
        known = {facet for other in others for facet in other.said}
        text = thread_text(Thread(thread.id, thread.messages)).lower()
        facets = [facet for name, (facet, said) in thread.said.items() if name not in known and said.lower() in text]
        found = [wording for facet in facets for wording in facet.asked[self._who.split]]
        return [wording for wording in [*found, *self._also(thread)] if wording.id not in thread.asked]

    def _also(self, thread: _Open) -> Sequence[Wording]:
        """Other words for what it is about, if no other thread is about the like."""
        if any(other.topic is thread.topic for other in self._threads if other is not thread):
            return ()
        return thread.topic.also[self._who.split]

    def _refer(self, thread: _Open, written: _Written) -> str:
        possible = self._referable(thread)
        whole = [wording for wording in possible if wording.is_whole]
        names = [wording for wording in possible if not wording.is_whole]
        wording = self._draw.choice(whole if whole and (not names or self._draw.random() < _WHOLE) else names)
        thread.asked.add(wording.id)
        act = "worry" if wording.is_whole else self._draw.choice(_ABOUT)
        if wording.is_whole:
            self._put(written, wording, thread.slots)
        else:
            self._put(written, self._unused(thread, act), {"x": wording.write(self._draw, thread.slots)})
            written.used.append(wording.id)
        also = self._also(thread)
        if also and wording not in also and self._draw.random() < _SAID_OF_WHAT:
            name, lead = self._draw.choice(also), self._pick("opening", "about")
            written.begin_with(lead, lead.write(self._draw, {"x": name.pattern}))
            written.used.append(name.id)
        return act

    def _name(self, thread: _Open, written: _Written) -> str:
        unsaid = len(thread.said) < len(thread.topic.facets)
        act = "again" if self._is_shared(thread) else self._draw.choice([*_ABOUT, "again", *["tell", "tell"] * unsaid])
        slots = {"x": thread.thing, "subject": thread.subject}
        if act == "tell":
            slots["said"] = self._say(thread, written)
        self._put(written, self._unused(thread, act), slots)
        return "ask_status" if act == "again" else act

    def _reply(self, thread: _Open, written: _Written, chatty: bool) -> str:
        fitting = [key for key in keys("reply") if key.split(".")[0] == thread.state]
        key = "any.go_on" if chatty and self._draw.random() < 0.25 else self._draw.choice(fitting)
        self._put(written, self._pick("reply", key), values(self._draw))
        return key.split(".")[1]

    def _say(self, thread: _Open, written: _Written | None = None) -> str:
        """A clause that the thread has not yet; from now on it has."""
        facet = self._draw.choice([facet for facet in thread.topic.facets if facet.id not in thread.said])
        wording = self._draw.choice(facet.said[self._who.split])
        text = wording.write(self._draw, {**values(self._draw), "p": thread.slots["p"]})
        thread.said[facet.id] = (facet, text)
        if written:
            written.used.append(wording.id)
        return text

    def _send(self, thread: _Open, target: str, tier: Tier, written: _Written, act: str, threads: Sequence[Thread]) -> Turn:
        spared = " ".join([thread.thing, *(text for _, text in thread.said.values())])
        text = self._who.style.type(written.text, self._draw, spared)
        message = self._add(thread, self._who.user, text)
        self._time += self._draw.uniform(3, 15)
        self._add(thread, self._who.assistant, self._answer(thread, act))
        return Turn(message, tier, target, "+".join(sorted(written.used)), threads)

    def _answer(self, thread: _Open, act: str) -> str:
        written = _Written()
        self._put(written, self._pick("hear", _HEARD.get(act, act)), {})
        if len(thread.said) < len(thread.topic.facets) and self._draw.random() < _FACT:
            self._put(written, self._pick("assistant", "fact"), {"said": self._say(thread)})
        had = thread.topic.materials
        states = [
            state
            for state, needed in STATES.items()
            if (not needed or needed in had)
            and state != thread.state
            and _ONLY_OF.get(state, thread.topic.type) == thread.topic.type
        ]
        thread.state = self._draw.choice(states)
        self._put(written, self._pick("assistant", thread.state), self._materials(thread))
        return written.text

    def _materials(self, thread: _Open) -> dict[str, str]:
        """What fills the slots of the line that the thread's state asks for."""
        found = dict(thread.slots)
        needed = STATES[thread.state]
        if not needed:
            return found
        drawn = self._draw.choice(thread.topic.materials[needed])
        if needed == "choices":
            found["a"], found["b"] = drawn.split(" vs ")
        elif needed == "actions":
            actions = self._draw.sample(thread.topic.materials["actions"], 3)
            found |= dict(zip(("action", "action2", "action3"), actions, strict=True))
        else:
            found[needed.removesuffix("s")] = drawn
        if thread.state == "draft":
            found["text"] = self._pick("assistant", "text").write(self._draw, {})
        return found

    def _add(self, thread: _Open, author: str, text: str) -> Message:
        self._count += 1
        message = Message(f"{self._who.id}-m{self._count}", author, text, self._time)
        thread.messages.append(message)
        thread.last = self._count
        return message

    def _seen(self) -> Sequence[Thread]:
        ranked = sorted(self._threads, key=lambda thread: -thread.last)
        return [Thread(thread.id, tuple(thread.messages), self._count - thread.last) for thread in ranked]

    def _new_topic(self) -> Topic:
        domain = self._who.side if self._draw.random() < _SIDE else self._who.domain
        had = Counter(thread.topic.id for thread in self._threads)
        fewest = min(had[topic.id] for topic in domain.topics)
        same = self._draw.random() < _SAME_TOPIC
        return self._draw.choice([topic for topic in domain.topics if same or had[topic.id] == fewest])

    def _name_for(self, topic: Topic) -> str:
        """A name of its own, or now and then that of a thread about something else in the same domain."""
        domain = topic.id.split(".")[0]
        near = [t for t in self._threads if t.topic.id != topic.id and t.topic.id.split(".")[0] == domain]
        taken = {thread.thing for thread in self._threads if thread.topic.id == topic.id}
        shared = [thread.thing for thread in near if thread.thing not in taken]
        if shared and self._draw.random() < _SHARED_NAME:
            return self._draw.choice(shared)
        return name_like(self._draw.choice(topic.things), self._draw)

    def _is_shared(self, thread: _Open) -> bool:
        """Whether another thread has its name, so that the name does not tell."""
        return any(other.thing == thread.thing for other in self._threads if other is not thread)

    def _lead_in(self, written: _Written, prefix: str, share: float) -> None:
        if self._draw.random() < share:
            wording = self._pick("opening", prefix)
            written.begin_with(wording, wording.pattern)
        elif self._draw.random() < self._who.style.fillers:
            wording = self._pick("opening", "filler")
            written.begin_with(wording, f"{wording.pattern},")

    def _unused(self, thread: _Open, act: str) -> Wording:
        """A template that the thread has not yet, if there is one."""
        every = wordings("about", act, self._who.split)
        wording = self._draw.choice([wording for wording in every if wording.id not in thread.asked] or every)
        thread.asked.add(wording.id)
        return wording

    def _pick(self, file: str, key: str) -> Wording:
        return self._draw.choice(wordings(file, key, self._who.split))

    def _put(self, written: _Written, wording: Wording, slots: dict[str, str]) -> None:
        written.put(wording, wording.write(self._draw, slots))
