"""One evening of an invented team's channel, as six programs would have logged it.

All hold the same talk, to the minute or the second as the program writes it; the talk crosses midnight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

CHANNEL = "#weirkeepers"
NETWORK = "brooknet"
OPERATOR = "mirek"
START = datetime(2026, 1, 5, 21, 40, 2)  # by the clock on the wall where the log was written


class What(Enum):
    SAY = "say"
    ACT = "act"
    JOIN = "join"
    QUIT = "quit"
    RENAME = "rename"
    MODE = "mode"


@dataclass(frozen=True)
class Event:
    minute: int  # after START
    what: What
    nick: str
    text: str = ""  # what was said or done; the quit message, the new nick, or who got voice

    @property
    def time(self) -> datetime:
        return START + timedelta(minutes=self.minute, seconds=self.minute % 50)


EVENTS = tuple(
    Event(minute, What(what), nick, text)
    for minute, what, nick, text in (
        (0, "join", "odile", ""),
        (1, "say", "odile", "evening all, is anybody else seeing the pump sensor drop out since the firmware update?"),
        (2, "say", "mirek", "odile: which one, the upper weir or the mill race?"),
        (3, "say", "odile", "mirek: upper weir, it reports zero for ten minutes and then comes back as if nothing happened"),
        (4, "say", "pavo_k", "has someone booked the van for thursday yet"),
        (
            5,
            "say",
            "mirek",
            "odile: then it is the serial cable again, look at the kernel log for a reset of the usb bridge",
        ),
        (6, "act", "sanna", "pours everybody a cup of tea"),
        (7, "say", "sanna", "pavo_k: I have it from noon, you can take it in the morning if you bring it back in time"),
        (8, "say", "odile", "found three resets in an hour: https://logs.example.org/weir/2026-01-05"),
        (9, "say", "pavo_k", "sanna: morning is fine, I only need to move the two spare pumps"),
        (10, "say", "mirek", "that is the cable then, there should be a shielded one in the blue box"),
        (11, "join", "tamsin", ""),
        (12, "say", "tamsin", "hello, is this where I ask about the water level feed?"),
        (13, "say", "sanna", "tamsin: yes, go ahead"),
        (14, "say", "odile", "mirek: will the old cable do if I wrap it in foil until the weekend?"),
        (15, "say", "tamsin", "the feed gives me a timestamp without a zone, should I read it as utc or as local time"),
        (16, "say", "mirek", "odile: for a day or two, but do not trust the numbers"),
        (17, "say", "sanna", "tamsin: local time in the old feed, utc in v2, and v2 says so in its header"),
        (18, "say", "pavo_k", "who has the key to the shed by the way"),
        (19, "say", "tamsin", "sanna: is there a date when the old one is turned off?"),
        (20, "say", "odile", "pavo_k: it hangs behind the door at the workshop"),
        (21, "mode", "mirek", "tamsin"),
        (22, "say", "sanna", "tamsin: end of march, there will be a note on the list before"),
        (23, "say", "pavo_k", "odile: thanks, found it"),
        (24, "say", "tamsin", "good, then I move to v2 right away and save myself the conversion"),
        (25, "rename", "sanna", "sanna_away"),
        (31, "say", "odile", "foil is on, no reset for five minutes now"),
        (33, "say", "mirek", "leave it running over night and we look at the graph tomorrow"),
        (36, "say", "tamsin", "v2 answers 403 for me, do I need a token?"),
        (40, "say", "mirek", "tamsin: yes, ask for one on the form, it takes a minute, then send it as a bearer header"),
        (43, "say", "tamsin", "mirek: works, thank you"),
        (52, "rename", "sanna_away", "sanna"),
        (53, "say", "sanna", "back. did the sensor behave?"),
        (55, "say", "odile", "sanna: so far yes, twenty minutes without a gap"),
        (58, "say", "pavo_k", "one of the spare pumps leaks at the flange, do we have gaskets of 60 mm"),
        (61, "say", "mirek", "pavo_k: second drawer, the black ones, take two since they are thin"),
        (64, "say", "pavo_k", "mirek: those are 50, I will cut one from the rubber sheet"),
        (69, "say", "sanna", "the sheet is meant for the sluice gate, leave at least half a metre of it please"),
        (72, "act", "pavo_k", "measures twice and cuts once"),
        (80, "say", "tamsin", "is the level measured from the sea or from the sill of the weir?"),
        (83, "say", "odile", "tamsin: from the sill, add 212.4 metres for the height above the sea"),
        (85, "say", "tamsin", "odile: perfect, that explains why my curve was under water :)"),
        (110, "quit", "tamsin", "bis morgen"),
        (133, "say", "mirek", "still no reset, I would call that proof"),
        (137, "say", "odile", "agreed, I order a shielded cable of three metres first thing in the morning"),
        (142, "say", "pavo_k", "while you order, add a pack of gaskets 60 mm"),
        (145, "say", "odile", "pavo_k: done, ten pieces"),
        (149, "quit", "pavo_k", "Ping timeout: 246 seconds"),
        (155, "say", "sanna", "I will write the note about the old feed tonight, who reads it before it goes out?"),
        (158, "say", "mirek", "sanna: send it to me"),
        (163, "say", "sanna", "mirek: it is in your inbox, the date is bold so that nobody can say they missed it"),
        (171, "say", "mirek", "sanna: reads well, I would only name the header of v2 in the first line"),
        (175, "say", "sanna", "mirek: changed, out it goes"),
        (181, "say", "odile", "good night all"),
    )
)
SPOKEN = tuple(event for event in EVENTS if event.what in (What.SAY, What.ACT))


def _save(path: Path, lines: Iterable[str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def _host(nick: str) -> str:
    return f"~{nick.rstrip('_')}@user/{nick}"


def irssi_log(folder: Path) -> Path:
    """``~/irclogs/<network>/<channel>.log``: clock times, a line where the day changes, all in one file."""

    def lines() -> Iterator[str]:
        yield f"--- Log opened {START:%a %b %d %H:%M:%S %Y}"
        yield f"{START:%H:%M} -!- Topic for {CHANNEL}: the river and what we hang into it"
        yield f"{START:%H:%M} [Users {CHANNEL}]"
        yield f"{START:%H:%M} [@{OPERATOR}] [ odile] [ pavo_k] [ sanna] "
        yield f"{START:%H:%M} -!- Irssi: {CHANNEL}: Total of 4 nicks [1 ops, 0 halfops, 0 voices, 3 normal]"
        day = START.date()
        for event in EVENTS:
            if event.time.date() != day:
                day = event.time.date()
                yield f"--- Day changed {day:%a %b %d %Y}"
            nick, text = event.nick, event.text
            mode = "@" if nick == OPERATOR else " "
            yield (
                f"{event.time:%H:%M} "
                + {
                    What.SAY: f"<{mode}{nick}> {text}",
                    What.ACT: f" * {nick} {text}",
                    What.JOIN: f"-!- {nick} [{_host(nick)}] has joined {CHANNEL}",
                    What.QUIT: f"-!- {nick} [{_host(nick)}] has quit [{text}]",
                    What.RENAME: f"-!- {nick} is now known as {text}",
                    What.MODE: f"-!- mode/{CHANNEL} [+v {text}] by {nick}",
                }[event.what]
            )
        yield f"--- Log closed {EVENTS[-1].time:%a %b %d %H:%M:%S %Y}"

    return _save(folder / NETWORK / f"{CHANNEL}.log", lines())


def weechat_log(folder: Path) -> Path:
    """``~/.local/share/weechat/logs/irc.<network>.<channel>.weechatlog``: date, prefix and text between tabs."""

    def lines() -> Iterator[str]:
        yield f'{START}\t--\tTopic for {CHANNEL} is "the river and what we hang into it"'
        for event in EVENTS:
            nick, text = event.nick, event.text
            mode = "@" if nick == OPERATOR else ""
            yield (
                f"{event.time}\t"
                + {
                    What.SAY: f"{mode}{nick}\t{text}",
                    What.ACT: f" *\t{nick} {text}",
                    What.JOIN: f"-->\t{nick} ({_host(nick)}) has joined {CHANNEL}",
                    What.QUIT: f"<--\t{nick} ({_host(nick)}) has quit ({text})",
                    What.RENAME: f"--\t{nick} is now known as {text}",
                    What.MODE: f"--\tMode {CHANNEL} [+v {text}] by {nick}",
                }[event.what]
            )

    return _save(folder / f"irc.{NETWORK}.{CHANNEL}.weechatlog", lines())


def znc_log(folder: Path) -> Path:
    """``<user>/<network>/<channel>/YYYY-MM-DD.log``: clock times, a file a day."""
    channel = folder / "odile" / NETWORK / CHANNEL
    days: dict[str, list[str]] = {}
    for event in EVENTS:
        nick, text = event.nick, event.text
        line = {
            What.SAY: f"<{nick}> {text}",
            What.ACT: f"* {nick} {text}",
            What.JOIN: f"*** Joins: {nick} ({_host(nick)})",
            What.QUIT: f"*** Quits: {nick} ({_host(nick)}) ({text})",
            What.RENAME: f"*** {nick} is now known as {text}",
            What.MODE: f"*** {nick} sets mode: +v {text}",
        }[event.what]
        days.setdefault(f"{event.time:%Y-%m-%d}", []).append(f"[{event.time:%H:%M:%S}] {line}")
    for day, lines in days.items():
        _save(channel / f"{day}.log", lines)
    return channel


def hexchat_log(folder: Path) -> Path:
    """``~/.config/hexchat/logs/<network>/<channel>.log``: month, day and clock, the year in headings; tabs after nicks."""

    def lines() -> Iterator[str]:
        yield f"**** BEGIN LOGGING AT {START:%a %b %e %H:%M:%S %Y}"
        yield ""
        yield f"{START:%b %d %H:%M:%S} *\tNow talking on {CHANNEL}"
        for event in EVENTS:
            nick, text = event.nick, event.text
            yield (
                f"{event.time:%b %d %H:%M:%S} "
                + {
                    What.SAY: f"<{nick}>\t{text}",
                    What.ACT: f"*\t{nick} {text}",
                    What.JOIN: f"*\t{nick} ({_host(nick)}) has joined",
                    What.QUIT: f"*\t{nick} has quit ({text})",
                    What.RENAME: f"*\t{nick} is now known as {text}",
                    What.MODE: f"*\t{nick} gives voice to {text}",
                }[event.what]
            )
        yield f"**** ENDING LOGGING AT {EVENTS[-1].time:%a %b %e %H:%M:%S %Y}"
        yield ""

    return _save(folder / NETWORK / f"{CHANNEL}.log", lines())


def mirc_log(folder: Path) -> Path:
    """``logs/<channel>.log`` of mIRC: clock times, sessions as headings, Windows line ends."""

    def lines() -> Iterator[str]:
        yield ""
        yield f"Session Start: {START:%a %b %d %H:%M:%S %Y}"
        yield f"Session Ident: {CHANNEL}"
        yield f"[{START:%H:%M}] * Now talking in {CHANNEL}"
        day = START.date()
        for event in EVENTS:
            if event.time.date() != day:
                day = event.time.date()
                yield f"Session Time: {day:%a %b %d} 00:00:00 {day:%Y}"
            nick, text = event.nick, event.text
            mode = "@" if nick == OPERATOR else ""
            yield (
                f"[{event.time:%H:%M}] "
                + {
                    What.SAY: f"<{mode}{nick}> {text}",
                    What.ACT: f"* {nick} {text}",
                    What.JOIN: f"* {nick} ({_host(nick)}) has joined {CHANNEL}",
                    What.QUIT: f"* {nick} ({_host(nick)}) Quit ({text})",
                    What.RENAME: f"* {nick} is now known as {text}",
                    What.MODE: f"* {nick} sets mode: +v {text}",
                }[event.what]
            )
        yield f"Session Close: {EVENTS[-1].time:%a %b %d %H:%M:%S %Y}"

    return _save(folder / f"{CHANNEL}.log", lines(), end="\r\n")


def plain_log(folder: Path) -> Path:
    """``<channel>.log`` of a bot that logs: date and clock in brackets before every line."""

    def lines() -> Iterator[str]:
        for event in EVENTS:
            nick, text = event.nick, event.text
            yield (
                f"[{event.time}] "
                + {
                    What.SAY: f"<{nick}> {text}",
                    What.ACT: f"* {nick} {text}",
                    What.JOIN: f"*** {nick} <{_host(nick)}> has joined {CHANNEL}",
                    What.QUIT: f"*** {nick} <{_host(nick)}> has quit IRC ({text})",
                    What.RENAME: f"*** {nick} is now known as {text}",
                    What.MODE: f"*** {nick} sets mode: +v {text}",
                }[event.what]
            )

    return _save(folder / f"{CHANNEL}.log", lines())


LOGS: dict[str, Callable[[Path], Path]] = {
    "irssi": irssi_log,
    "weechat": weechat_log,
    "znc": znc_log,
    "hexchat": hexchat_log,
    "mirc": mirc_log,
    "plain": plain_log,
}
