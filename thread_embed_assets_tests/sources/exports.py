"""Small exports of an invented team's chat, each true to the tool that writes it.

The same talk is written in every format: ``discord_export``, ``slack_export`` and ``zulip_export`` take an empty folder, and
lines to add to the talk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

START = 1_740_823_200  # 2025-03-01 10:00 UTC, a Saturday
_BETWEEN_LINES = 90
_BETWEEN_THREADS = 6 * 3600
_DISCORD_EPOCH = 1_420_070_400_000


class Line(NamedTuple):
    """One message: ``@ada`` in its text is a mention of that person. Without a thread it stands alone."""

    channel: str
    thread: str
    author: str
    text: str


class Person(NamedTuple):
    number: int
    handle: str
    name: str


PEOPLE = {
    person.handle: person
    for person in (
        Person(1, "ada", "Ada Lowe"),
        Person(2, "bmarsh", "Ben Marsh"),
        Person(3, "cleo", "Cleo Varga"),
        Person(4, "dev_o", "Dev Okafor"),
        Person(5, "esme", "Esme Tully"),
    )
}
_MENTION = re.compile(rf"(?<!\w)@({'|'.join(PEOPLE)})\b")


def _talk(channel: str, thread: str, *lines: str) -> list[Line]:
    """Lines of ``author: text``."""
    return [Line(channel, thread, *line.split(": ", 1)) for line in lines]


TALK: tuple[Line, ...] = (
    *_talk(
        "platform",
        "slow builds",
        "ada: The builds take twice as long since yesterday, does anybody know what changed?",
        "bmarsh: I moved the cache to the new disk on Thursday, and it may still be cold.",
        "ada: It was cold on Friday as well, and three runs have filled it since then.",
        "cleo: Look at the log of the last run, it downloads every package again.",
        "bmarsh: Right, the key of the cache has the date in it. I will take that out now.",
        "ada: Thanks @bmarsh, the run after your change took four minutes again.",
    ),
    *_talk(
        "platform",
        "database upgrade",
        "dev_o: We have to move the database to the new major version before the end of April.",
        "esme: Is there a window when nobody writes to it, or do we need a replica?",
        "dev_o: Sundays before six in the morning are quiet enough, I counted forty writes.",
        "cleo: Then take the replica anyway, since nobody wants to find out that the dump fails.",
        "esme: I can prepare it on Wednesday if @dev_o gives me the access.",
    ),
    *_talk(
        "platform",
        "certificate",
        "cleo: The certificate of the staging host runs out next week, who renews it?",
        "dev_o: It should renew itself, but the job has failed for a month with a wrong path.",
        "cleo: Can you mend the path, or shall I renew it by hand this once?",
        "dev_o: I have mended it and started the job, look whether the browser is happy.",
        "cleo: The browser is happy and so am I, it is good until June.",
    ),
    *_talk(
        "platform",
        "flaky test",
        "bmarsh: The test of the import fails on every tenth run, always with another row count.",
        "esme: That test reads the clock, and it fails when a minute passes in the middle.",
        "bmarsh: Then we should give it a clock of its own instead of running it three times.",
        "ada: There is a helper for that in the tests of the scheduler, you can take it over.",
        "bmarsh: Found it, and with the frozen clock I had two hundred runs without a failure.",
    ),
    *_talk(
        "help",
        "How do I reset my password?",
        "esme: I cannot sign in to the wiki any more, it says that my password is wrong.",
        "ada: The wiki has its own password since the move, did you set one in January?",
        "esme: No, I never got that message. Where can I set it now?",
        "ada: Open the page for members and ask for a new link, it comes within a minute.",
        "esme: That worked, and I have written it down for the others.",
    ),
    *_talk(
        "help",
        "VPN drops every hour",
        "cleo: My connection drops every hour, exactly at the full hour, whatever I do.",
        "bmarsh: That is the lease, your client does not ask for a new one in time.",
        "cleo: Which setting is that, and why does nobody else see it?",
        "bmarsh: It is called renewal margin, and yours is zero after the last update.",
        "cleo: I set it to five minutes, and the full hour passed without a break.",
    ),
    *_talk(
        "help",
        "Where are the old invoices",
        "dev_o: Does anybody remember where we keep the invoices from before the new system?",
        "esme: They were on the shared disk, in the folder of the old accounting program.",
        "dev_o: That folder is empty for me, perhaps I am not allowed to see what is in it.",
        "esme: I asked for your access this morning, try it again after lunch.",
        "dev_o: Now I see all of them, and the one from March is there as well.",
    ),
    *_talk(
        "help",
        "printer on the second floor",
        "bmarsh: The printer on the second floor prints every page twice, even from my phone.",
        "cleo: Somebody has set two copies as the default, you can change that at the panel.",
        "bmarsh: The panel wants a code that I do not have, who knows it?",
        "cleo: It is on a label behind the paper tray, I have just looked.",
        "bmarsh: Done, one page at a time again, and the label is back in its place.",
    ),
    *_talk(
        "product",
        "onboarding survey",
        "ada: Half of the people who start the survey leave it at the third question.",
        "cleo: The third question asks for their income, I would leave there myself.",
        "ada: Marketing wants that number, but I would rather have whole answers.",
        "dev_o: Put it last and make it optional, then you get both of them.",
        "ada: I have moved it to the end, and we will see what next week brings.",
    ),
    *_talk(
        "product",
        "dark mode",
        "esme: Three customers asked for a dark mode this month, two of them write at night.",
        "cleo: Most of our colours are written into the pages, so it is a week of work.",
        "esme: Could we begin with the editor, where they spend their time?",
        "cleo: The editor alone is two days, and I can start after the release.",
        "esme: Good, then I tell them that it comes in the spring.",
    ),
    *_talk(
        "product",
        "price page",
        "bmarsh: The page with the prices still shows the old plan for small teams.",
        "ada: That plan is sold to nobody new, but the people who have it look it up there.",
        "bmarsh: Then it needs a line that says so, or we will have the same question every week.",
        "ada: I have written the line, could you check whether it is clear?",
        "bmarsh: It is clear, and I put it live together with the new pictures.",
    ),
    *_talk(
        "product",
        "release notes",
        "cleo: Who writes the notes for the release, and by when do you need the pictures?",
        "esme: I do, and Thursday at noon is early enough for the pictures.",
        "cleo: Then you get the editor on Wednesday and the new menu on Thursday morning.",
        "dev_o: Please say in the notes that the old menu stays until the summer.",
        "esme: I have put that into the first paragraph, where everybody reads it.",
    ),
)


class _Timed(NamedTuple):
    line: Line
    time: int
    first: bool


def _timed(extra: Iterable[Line]) -> list[_Timed]:
    """The talk and what is added to it, with seconds since 1970; threads of one channel overlap by their last lines."""
    threads: dict[tuple[str, str, int], list[Line]] = {}
    for position, line in enumerate((*TALK, *extra)):
        threads.setdefault((line.channel, line.thread, 0 if line.thread else position), []).append(line)
    timed = [
        _Timed(line, START + number * _BETWEEN_THREADS + place * _BETWEEN_LINES, place == 0)
        for number, lines in enumerate(threads.values())
        for place, line in enumerate(lines)
    ]
    return sorted(timed, key=lambda entry: entry.time)


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def slack_export(folder: Path, extra: Iterable[Line] = ()) -> Path:
    """An export of a Slack workspace, with members and channels listed, and a file for each day."""
    write_json(folder / "users.json", [_slack_user(person) for person in PEOPLE.values()])
    channels: dict[str, dict[str, list[dict[str, Any]]]] = {}
    roots: dict[tuple[str, str], str] = {}
    for number, (line, time, _) in enumerate(_timed(extra)):
        ts = f"{time}.{number:06}"
        entry: dict[str, Any] = {
            "user": _slack_id(line.author),
            "type": "message",
            "ts": ts,
            "client_msg_id": f"00000000-0000-0000-0000-{number:012}",
            "text": _MENTION.sub(lambda found: f"<@{_slack_id(found[1])}>", escape(line.text, quote=False)),
            "team": "T0TEAM",
        }
        if line.thread:
            entry["thread_ts"] = roots.setdefault((line.channel, line.thread), ts)
        day = datetime.fromtimestamp(time, UTC).date().isoformat()
        channels.setdefault(line.channel, {}).setdefault(day, []).append(entry)
    listed = [{"id": f"C{n:08}", "name": name, "created": START, "members": []} for n, name in enumerate(channels)]
    write_json(folder / "channels.json", listed)
    for name, days in channels.items():
        for day, entries in days.items():
            write_json(folder / name / f"{day}.json", entries)
    return folder


def _slack_id(handle: str) -> str:
    return f"U{PEOPLE[handle].number:08}" if handle in PEOPLE else handle


def _slack_user(person: Person) -> dict[str, Any]:
    return {
        "id": _slack_id(person.handle),
        "team_id": "T0TEAM",
        "name": person.handle,
        "deleted": False,
        "real_name": person.name,
        "profile": {
            "real_name": person.name,
            "display_name": person.handle,
            "email": f"{person.handle}@brackenfold.example",
        },
        "is_bot": False,
    }


def snowflake(time: float, number: int = 0) -> str:
    """An id of Discord's for something made at that second."""
    return str(int(time * 1000) - _DISCORD_EPOCH << 22 | number)


def discord_user(handle: str, **fields: Any) -> dict[str, Any]:
    """A user as DiscordChatExporter writes it."""
    person = PEOPLE.get(handle, Person(99, handle, handle))
    return {
        "id": snowflake(1_500_000_000, person.number),
        "name": person.handle,
        "discriminator": "0000",
        "nickname": person.name,
        "color": None,
        "isBot": False,
        "roles": [],
        "avatarUrl": "https://cdn.discordapp.example/embed/avatars/0.png",
    } | fields


def discord_message(number: int, time: float, handle: str, text: str | None, **fields: Any) -> dict[str, Any]:
    """A message as DiscordChatExporter writes it."""
    return {
        "id": snowflake(time, number),
        "type": "Default",
        "timestamp": datetime.fromtimestamp(time, UTC).isoformat(),
        "timestampEdited": None,
        "callEndedTimestamp": None,
        "isPinned": False,
        "content": text,
        "author": discord_user(handle),
        "attachments": [],
        "embeds": [],
        "stickers": [],
        "reactions": [],
        "mentions": [],
        "inlineEmojis": [],
    } | fields


def discord_file(folder: Path, channel: Mapping[str, Any], messages: list[dict[str, Any]], part: int = 1) -> Path:
    """A file of DiscordChatExporter; ``channel`` gives at least its ``id`` and ``name``."""
    described = {"type": "GuildTextChat", "categoryId": "7", "category": "Team", "topic": None} | dict(channel)
    content = {
        "guild": {"id": "900", "name": "Brackenfold", "iconUrl": ""},
        "channel": described,
        "dateRange": {"after": None, "before": None},
        "exportedAt": datetime.fromtimestamp(START + 90 * 86_400, UTC).isoformat(),
        "messages": messages,
        "messageCount": len(messages),
    }
    name = f"Brackenfold - {described['category']} - {described['name']} [{described['id']}]".replace("/", "_").replace(
        "?", "_"
    )
    return write_json(folder / f"{name}{f' [part {part}]' if part > 1 else ''}.json", content)


def discord_export(folder: Path, extra: Iterable[Line] = ()) -> Path:
    """DiscordChatExporter's files of a server: ``help`` is a forum with a post for each thread, the others are channels.

    In a channel each line of a thread is a reply to the line before it.
    """
    channels: dict[str, list[dict[str, Any]]] = {}
    posts: dict[str, list[dict[str, Any]]] = {}
    ids: dict[str, str] = {}
    last: dict[tuple[str, str], str] = {}
    for number, (line, time, first) in enumerate(_timed(extra)):
        channel = ids.setdefault(line.channel, str(100 + len(ids)))
        text = _MENTION.sub(lambda found: f"@{PEOPLE[found[1]].name}", line.text)
        mentioned = [discord_user(handle) for handle in _MENTION.findall(line.text)]
        message = discord_message(number, time, line.author, text, mentions=mentioned)
        if line.channel == "help" and line.thread:
            posts.setdefault(line.thread, []).append(message)
            continue
        channels.setdefault(line.channel, []).append(message)
        if line.thread and not first:
            reference = {"messageId": last[line.channel, line.thread], "channelId": channel, "guildId": "900"}
            message |= {"type": "Reply", "reference": reference}
        last[line.channel, line.thread] = message["id"]
    for name, messages in channels.items():
        discord_file(folder, {"id": ids[name], "name": name}, messages)
    for title, messages in posts.items():
        thread = {"id": messages[0]["id"], "name": title, "type": "GuildPublicThread"}
        discord_file(folder, thread | {"categoryId": ids["help"], "category": "help"}, messages)
    return folder


def zulip_message(number: int, time: float, handle: str, content: str | None, **fields: Any) -> dict[str, Any]:
    """A message as zulip-archive stores it."""
    name = PEOPLE[handle].name if handle in PEOPLE else handle
    return {"content": content, "id": 500_000_000 + number, "sender_full_name": name, "timestamp": int(time)} | fields


def zulip_topic_file(title: str) -> str:
    return quote(title, safe="~()*!.'").replace(".", "%2E").replace("%", ".") + ".json"


def zulip_export(folder: Path, extra: Iterable[Line] = ()) -> Path:
    """A zulip-archive: an index, a folder for each channel and in it a file for each topic."""
    topics: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, (line, time, _) in enumerate(_timed(extra)):
        content = f"<p>{_MENTION.sub(_zulip_mention, escape(line.text))}</p>"
        message = zulip_message(number, time, line.author, content)
        topics.setdefault(line.channel, {}).setdefault(line.thread or "general chat", []).append(message)
    streams: dict[str, Any] = {}
    for number, (channel, by_title) in enumerate(topics.items(), start=300_001):
        for title, messages in by_title.items():
            write_json(folder / "zulip_json" / f"{number}-{channel}" / zulip_topic_file(title), messages)
        streams[channel] = {
            "id": number,
            "latest_id": max(m["id"] for messages in by_title.values() for m in messages),
            "topic_data": {t: {"latest_date": m[-1]["timestamp"], "size": len(m)} for t, m in by_title.items()},
        }
    write_json(folder / "zulip_json" / "stream_index.json", {"streams": streams, "time": START + 90 * 86_400.5})
    return folder


def _zulip_mention(found: re.Match[str]) -> str:
    person = PEOPLE[found[1]]
    return f'<span class="user-mention" data-user-id="{person.number}">@{person.name}</span>'
