"""Checks of the examples; each looks at the stored rows."""

from __future__ import annotations

from thread_embed_assets.reranker.train import RerankerCheckpoint
from thread_embed_assets.storage.tables import TableHandle, connect_read_only
from thread_embed_assets.verdict import Verdict, no_faults

# Simulated users and wordings, a row each; a message's template names all wordings that it was made from.
_OWNED = {
    "profile": "SELECT DISTINCT split, profile AS owned FROM examples WHERE profile <> ''",
    "template": "SELECT DISTINCT split, unnest(string_split(template, '+')) AS owned FROM examples WHERE template <> ''",
    # Of synthetic messages only: of two people in a real channel, both may say "thanks".
    "message": "SELECT DISTINCT split, trim(regexp_replace(lower(message), '[^a-z0-9]+', ' ', 'g')) AS owned FROM examples "
    "WHERE template <> ''",
}
_ROSE = 1.1


def leaks(examples: TableHandle) -> list[str]:
    """Simulated users, wordings and messages (by their letters and digits) that stand in two splits, and which those are.

    Real messages have neither user nor wording here; their splits are those of their conversations.
    """
    found = []
    with connect_read_only([examples]) as connection:
        for kind, query in _OWNED.items():
            shared = connection.execute(
                f"SELECT owned, string_agg(split, ' and ' ORDER BY split) FROM ({query}) GROUP BY 1 "
                "HAVING count(*) > 1 ORDER BY 1"
            ).fetchall()
            found += [f"{kind} {owned!r} is in {splits}" for owned, splits in shared]
    return found


def split_by_profile_and_wording(examples: TableHandle) -> Verdict:
    """No simulated user, no wording and no synthetic message stands in two splits."""
    return no_faults("users, wordings and messages in two splits", leaks(examples), examples.rows)


def nothing_from_the_future(examples: TableHandle) -> Verdict:
    """No candidate's text or features rest on what was said after the message."""
    with connect_read_only([examples]) as connection:
        query = "SELECT group_id, candidate_id FROM examples WHERE known_until > sent_at ORDER BY ALL"
        late = connection.execute(query).fetchall()
    return no_faults("candidates that know the future", [f"{name} of {group}" for group, name in late], examples.rows)


def one_right_candidate(examples: TableHandle) -> Verdict:
    """Exactly one candidate of each message is right."""
    with connect_read_only([examples]) as connection:
        query = "SELECT group_id, sum(label) FROM examples GROUP BY group_id HAVING sum(label) <> 1 ORDER BY ALL"
        found = connection.execute(query).fetchall()
        [(groups,)] = connection.execute("SELECT count(DISTINCT group_id) FROM examples").fetchall()
    faults = [f"{group} has {right}" for group, right in found]
    return no_faults("messages without exactly one right candidate", faults, groups)


def head_is_trained(checkpoint: RerankerCheckpoint) -> Verdict:
    """All parts that were to be trained have moved, and in the last phase the loss has not risen.

    It may be ``_ROSE`` of what it was: a model that begins with what features tell has not far to fall, and batches differ.
    A phase before has easier examples, whose loss tells nothing beside it.
    """
    moved = checkpoint.manifest["moved"]
    faults = [f"{name} has not moved" for name in ("head", *moved) if not moved.get(name, 0) > 0]
    history = checkpoint.history()
    last_phase = {epoch["epoch"] for epoch in history["epochs"] if epoch["tiers"] == history["epochs"][-1]["tiers"]}
    losses = [point["loss"] for point in history["steps"] if point["epoch"] in last_phase]
    count = max(1, len(losses) // 4)  # single batches differ more than training changes them
    first, last = sum(losses[:count]) / count, sum(losses[-count:]) / count
    if not last < _ROSE * first:
        faults.append(f"the loss went from {first:.4f} to {last:.4f}")
    return no_faults("parts that training left alone", faults, len(moved))
