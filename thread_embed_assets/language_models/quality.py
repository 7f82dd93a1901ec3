"""Checks of a table of summaries; each looks at the stored rows."""

from __future__ import annotations

from thread_embed_assets.chat.leaks import no_leaks
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.language_models.extractive import NAME as STAND_IN
from thread_embed_assets.language_models.summaries import COPIED_SHARE, SUMMARIES, copied_share
from thread_embed_assets.storage.quality import has_schema, unique
from thread_embed_assets.storage.tables import TableHandle, connect_read_only
from thread_embed_assets.verdict import Verdict, no_faults

LOWEST_COVERAGE = 0.8
_LINES = ("summary", "title", "questions")


def schema(summaries: TableHandle) -> Verdict:
    """The table has the declared columns."""
    return has_schema(summaries, SUMMARIES)


def unique_ids(summaries: TableHandle) -> Verdict:
    """No conversation stands twice."""
    return unique(summaries, "conversation_id")


def coverage(summaries: TableHandle) -> Verdict:
    """Most of the conversations about which something can be said have a summary, and every row says who wrote it."""
    asked = summaries.counts.get("asked", 0) - summaries.counts.get("no_answer_nothing_to_say", 0)
    with connect_read_only([summaries]) as connection:
        query = "SELECT conversation_id FROM summaries WHERE coalesce(written_by, '') = '' OR summary = '' OR title = ''"
        blank = connection.execute(query).fetchall()
    share = summaries.rows / asked if asked else 0.0
    text = (
        f"{share:.1%} of {asked} conversations have a summary, {LOWEST_COVERAGE:.0%} are asked for; {len(blank)} are blank"
    )
    return Verdict(share >= LOWEST_COVERAGE and not blank, text, {"asked": asked, "share": share, "blank": len(blank)})


def no_private_data(summaries: TableHandle) -> Verdict:
    """No line holds a personal or secret string."""
    texts = (
        (f"{row['conversation_id']}, {number}", line)
        for row in summaries.rows_as_dicts(["conversation_id", *_LINES])
        for number, line in enumerate((row["summary"], row["title"], *row["questions"]))
    )
    return no_leaks(texts, 4 * summaries.rows)


def no_held_out_conversation(summaries: TableHandle, stored: Normalised) -> Verdict:
    """Each row is about a train or dev conversation of the source, in its split."""
    with connect_read_only([summaries, stored.conversations]) as connection:
        query = (
            "SELECT s.conversation_id FROM summaries s LEFT JOIN conversations c USING (conversation_id) "
            f"WHERE c.split IS DISTINCT FROM s.split OR c.split NOT IN ('{Split.TRAIN}', '{Split.DEV}') ORDER BY 1"
        )
        faults = [str(row[0]) for row in connection.execute(query).fetchall()]
    return no_faults("summaries of held-out or unknown conversations", faults, summaries.rows)


def not_copied(summaries: TableHandle, stored: Normalised) -> Verdict:
    """What a language model wrote is no message of the conversation over again; the stand-in's words are all from there."""
    where = f"written_by <> '{STAND_IN}'"
    rows = summaries.rows_as_dicts(["conversation_id", "summary", "questions"], where)
    faults: list[str] = []
    row = next(rows, None)
    checked = 0
    for conversation in read_conversations(stored.conversations, stored.messages, f"c.split <> '{Split.TEST}'"):
        if row is None or row["conversation_id"] != conversation.id:
            continue
        messages = [message.text for message in conversation.messages]
        checked += 1
        if any(copied_share(line, messages) >= COPIED_SHARE for line in (row["summary"], *row["questions"])):
            faults.append(conversation.id)
        row = next(rows, None)
    if row is not None:
        faults.append(f"{row['conversation_id']} (of no train or dev conversation, or out of order)")
    if not checked and not faults:
        return Verdict(True, "no language model wrote here", {"checked": 0, "faults": 0})
    return no_faults("summaries that repeat their conversation", faults, checked)
