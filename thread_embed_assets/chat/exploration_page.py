"""The page of one source: its figures as charts and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from thread_embed_assets.chat.exploration import EXAMPLE_CHARACTERS, EXAMPLE_MESSAGES, Example, SourceFigures
from thread_embed_assets.storage.charts import (
    Bars,
    Chart,
    HeatMap,
    Histogram,
    Panel,
    Timeline,
    Waterfall,
    histogram,
    percent,
    stepped,
)
from thread_embed_assets.storage.distribution import QUANTILES, Distribution
from thread_embed_assets.storage.pages import Cell, Listing, Page, Part, Section, Table

SECONDS: Mapping[float, str] = {
    0: "0",
    1: "1 s",
    10: "10 s",
    60: "1 min",
    300: "5 min",
    1_800: "30 min",
    3_600: "1 h",
    14_400: "4 h",
    86_400: "1 day",
    604_800: "1 week",
    2_592_000: "30 days",
    31_536_000: "1 year",
}
DOUBLINGS: Mapping[float, str] = {2**power: f"{2**power:,}" for power in range(15)}
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_UNITS = ((31_557_600, "years"), (86_400, "d"), (3_600, "h"), (60, "min"))
_FEW = 5
_NO_TIMES = "This source has no times."
_INTERVALS = {1: "a day", 7: "a week", 28: "a month"}


def source_page(figures: SourceFigures, title: str) -> Page:
    """Everything worth seeing of one source; panels that would show a single value are left out."""
    return Page(
        title=title,
        lead=_lead(figures),
        sections=[section for section in _sections(figures) if section.parts],
    )


def _lead(f: SourceFigures) -> str:
    times = f"from {day(f.first)} to {day(f.last)}" if f.first is not None else "without times"
    truths = ", ".join(f.truths if len(f.truths) == 1 else (f"{n:,} {truth}" for truth, n in f.truths.items()))
    return (
        f"{f.conversations:,} conversations (threads: {truths}) with {f.messages:,} messages by {f.people:,} people in "
        f"{f.channels:,} {'channel' if f.channels == 1 else 'channels'}, {times}. Platform: {f.platform}. "
        "Everything here is counted after cleaning, masking and filtering, but for what the filters removed."
    )


def _sections(f: SourceFigures) -> Iterator[Section]:
    yield Section("Splits", [_splits(f)])
    yield Section("Size", _charts("size", "Messages per conversation and the largest channels", _size(f)))
    yield Section("People", _charts("people", "People per conversation and messages per person", _people(f)))
    yield Section("Text", [*_charts("text", "Length of messages and what stands in them", _text(f)), *_text_tables(f)])
    yield Section("Time", _charts("time", "Messages over time, by hour, and times between them", _time(f)) or [_NO_TIMES])
    yield Section("Filters", [*_charts("filters", "What the filters removed", _filters(f)), _losses(f)])
    yield Section("In numbers", [spreads_table(_spreads(f))])
    yield Section("Examples", _examples(f))


def _charts(name: str, alt: str, panels: Sequence[Panel]) -> list[Part]:
    return [Chart(name, alt, panels)] if panels else []


def _spreads(f: SourceFigures) -> dict[str, Distribution | None]:
    return {
        "messages per conversation": f.messages_per_conversation,
        "people per conversation": f.people_per_conversation,
        "messages per person": f.messages_per_person,
        "words per message": f.words_per_message,
        "characters per message": f.characters_per_message,
        "time from first to last message": f.conversation_seconds,
        "time between messages": f.gap_seconds,
        "language certainty, percent": f.language_percent,
    }


def spreads_table(spreads: Mapping[str, Distribution | None]) -> Table:
    """A row of quantiles for each distribution that there is; one whose name begins with ``time`` is in seconds."""
    columns = ["", "n", "mean", *("median" if q == 0.5 else f"{q:.0%}" for q in QUANTILES), "largest"]
    rows: list[list[Cell]] = []
    for name, spread in spreads.items():
        if spread is not None:
            numbers: list[float] = [spread.mean, *spread.quantiles(), round(spread.largest)]
            rows.append([name, spread.n, *(map(duration, numbers) if name.startswith("time") else numbers)])
    return Table(columns, rows)


def duration(seconds: float) -> str:
    """Seconds in the largest unit that they fill."""
    return next((f"{seconds / size:,.3g} {unit}" for size, unit in _UNITS if seconds >= size), f"{seconds:.3g} s")


def _splits(f: SourceFigures) -> Table:
    rows: list[list[Cell]] = [
        [s.split, s.conversations, f"{s.conversations / f.conversations:.1%}", s.messages, s.people, s.channels]
        for s in f.splits
    ]
    rows.append(["all", f.conversations, "100.0%", f.messages, f.people, f.channels])
    return Table(["split", "conversations", "share", "messages", "people", "channels"], rows)


def _several(panel: Histogram, spread: Distribution) -> list[Panel]:
    return [panel] if len(spread.values) > 1 else []


def _size(f: SourceFigures) -> list[Panel]:
    spread = f.messages_per_conversation
    panels = _several(histogram("Messages per conversation", "messages", "conversations", spread), spread)
    if f.channels > 1:
        few = f"Largest {len(f.largest_channels)} of {f.channels:,}" if f.channels > len(f.largest_channels) else "All"
        panels.append(Bars(f"{few} channels", "messages", {c.channel: c.messages for c in f.largest_channels}))
    return panels


def _people(f: SourceFigures) -> list[Panel]:
    talkers, said = f.people_per_conversation, f.messages_per_person
    return [
        *_several(histogram("People per conversation", "people", "conversations", talkers), talkers),
        *([stepped("Messages per person", "messages", "people", DOUBLINGS, {"people": said})] if said.n > _FEW else []),
    ]


def _text(f: SourceFigures) -> list[Panel]:
    words, characters = f.words_per_message, f.characters_per_message
    contents = {
        "answer a message": f.with_parent,
        "mention a person": f.with_mention,
        "hold code": f.with_code,
        "hold a URL": f.with_url,
    }
    return [
        *_several(histogram("Words per message", "words", "messages", words), words),
        *_several(histogram("Characters per message", "characters", "messages", characters), characters),
        shares("Messages that …", "messages", contents, f.messages),
    ]


def _text_tables(f: SourceFigures) -> list[Part]:
    if not f.masks:
        return ["Apart from people, nothing was masked."]
    return ["What was masked apart from people:", Table(["mask", "times"], list(f.masks.items()))]


def shares(title: str, counted: str, parts: Mapping[str, int], whole: int) -> Bars:
    """Bars of parts of a whole, in percent."""
    bars = {name: 100 * part / whole if whole else 0.0 for name, part in parts.items()}
    written = {name: f"{percent(part, whole)} ({part:,})" for name, part in parts.items()}
    return Bars(title, f"percent of {whole:,} {counted}", bars, written)


def _time(f: SourceFigures) -> list[Panel]:
    panels: list[Panel] = []
    if f.timeline:
        every = _INTERVALS[f.timeline_days]
        panels.append(Timeline(f"Messages {every}", "messages", f.timeline, f.timeline_days))
        hours = [f"{hour:02}" if hour % 3 == 0 else "" for hour in range(24)]
        panels.append(HeatMap("Messages by hour and weekday", "hour of the day, UTC", "messages", _WEEKDAYS, hours, f.week))
    if f.gap_seconds is not None:
        title = "Time between messages of a conversation"
        panels.append(stepped(title, "time", "messages", SECONDS, {"messages": f.gap_seconds}, resolution(f.gap_seconds)))
    if f.conversation_seconds is not None:
        title = "From a conversation's first message to its last"
        panels.append(stepped(title, "time", "conversations", SECONDS, {"conversations": f.conversation_seconds}))
    return panels


def resolution(gaps: Distribution) -> str:
    """A note for sources whose times have no seconds."""
    return "to the minute" if all(gap % 60 == 0 for gap in gaps.values if gap < 1_000) else ""


def losses(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    """What each filter removed, the largest first, in words."""
    found = {name.removeprefix(prefix).replace("_", " "): n for name, n in counts.items() if name.startswith(prefix) and n}
    return dict(sorted(found.items(), key=lambda loss: (-loss[1], loss[0])))


def _filters(f: SourceFigures) -> list[Panel]:
    panels: list[Panel] = []
    for counted, prefix in (("conversations", "dropped_"), ("messages", "removed_")):
        parsed, kept = f.counts.get(f"parsed_{counted}", 0), f.counts.get(f"kept_{counted}", 0)
        removed = losses(f.counts, prefix)
        rest = parsed - kept - sum(removed.values())
        if rest:
            removed["in dropped conversations" if counted == "messages" else "for another reason"] = rest
        if parsed:
            panels.append(
                Waterfall(f"{counted.capitalize()}, from parsed to kept", counted, ("parsed", parsed), removed, "kept")
            )
    if len(f.languages) > 1:
        most = dict(sorted(f.languages.items(), key=lambda one: -one[1])[:10])
        panels.append(shares("Languages before filtering", "conversations", most, sum(f.languages.values())))
    sure = f.language_percent
    title = "Certainty of the language of what is kept"
    return [*panels, *_several(histogram(title, "percent", "conversations", sure), sure)]


def _losses(f: SourceFigures) -> Table:
    return Table(["count", "value"], sorted(f.counts.items()))


def _examples(f: SourceFigures) -> list[Part]:
    if not f.examples:
        return ["There is no conversation to train on, and held-out ones are not shown."]
    return [
        f"{len(f.examples)} conversations drawn from those to train on: the first {EXAMPLE_MESSAGES} messages, each up to "
        f"{EXAMPLE_CHARACTERS} characters.",
        *(Listing(_about(example), example.lines) for example in f.examples),
    ]


def _about(e: Example) -> str:
    return ", ".join(filter(None, [e.channel, e.day, f"{e.messages} messages by {e.people} people", f"thread {e.truth}"]))


def day(moment: datetime | None) -> str:
    """The day as 2024-05-31, empty for None."""
    return "" if moment is None else moment.date().isoformat()
