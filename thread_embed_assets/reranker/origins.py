"""Where the reranker's examples come from: simulated users, and the sources in which people marked the threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from thread_embed_assets.chat.model import Truth
from thread_embed_assets.chat.normalise import Normalised, open_normalised
from thread_embed_assets.chat.people import Masker, salt
from thread_embed_assets.reranker.real import Sampling, write_examples
from thread_embed_assets.reranker.replay import Channel, log_channel, masked, table_channels
from thread_embed_assets.reranker.synthetic import generate
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.irc import annotated_logs
from thread_embed_assets.sources.parsers import aliases
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, connect_read_only, open_table

SYNTHETIC = generate.ORIGIN
TABLE = generate.TABLE


@dataclass(frozen=True)
class Amount:
    """How many examples are made.

    Attributes:
        synthetic: see :mod:`.synthetic.generate`.
        train_messages: of each real source, about so many at most, a sample by id; None takes all.
        measured_messages: of each origin's dev and test, so many are asked at most; 0 asks all.
        seed: of all draws.
    """

    synthetic: generate.Size = "quick"
    train_messages: int | None = 150
    measured_messages: int = 200
    seed: int = 0


AMOUNTS: Mapping[str, Amount] = {
    "quick": Amount(),
    "standard": Amount("full", 2_400, 1_000),
    "full": Amount("full", None, 0),
}


def write_all(sources: Iterable[Source], layout: Layout, amount: Amount) -> dict[str, TableHandle]:
    """The examples of simulated users and of each source that has any, a file each, by origin."""
    written = {SYNTHETIC: generate.write_examples(layout.reranker_examples(SYNTHETIC), amount.synthetic, amount.seed)}
    for source in sources:
        if tells_threads(source, layout):
            share = _train_share(open_normalised(layout.conversations(source.name)), amount.train_messages)
            path, sampling = layout.reranker_examples(source.name), Sampling(train_share=share, seed=amount.seed)
            written[source.name] = write_examples(path, channels(source, layout), sampling)
    return written


def _train_share(stored: Normalised, most: int | None) -> float:
    with connect_read_only([stored.conversations, stored.messages]) as connection:
        query = "SELECT count(*) FROM messages JOIN conversations USING (conversation_id) WHERE split = 'train'"
        [(messages,)] = connection.execute(query).fetchall()
    return 1.0 if most is None or messages <= most else most / messages


def written(layout: Layout) -> dict[str, TableHandle]:
    """Those that are on disk, by origin."""
    found = sorted(layout.reranker_examples(SYNTHETIC).parent.glob("*.duckdb"))
    return {path.stem: open_table(path, TABLE) for path in found}


def tells_threads(source: Source, layout: Layout) -> bool:
    """Whether its conversations are here, their threads are not guessed, and its messages have times."""
    if source.truth is Truth.GUESSED or not layout.conversations(source.name).exists():
        return False
    messages = open_normalised(layout.conversations(source.name)).messages
    with connect_read_only([messages]) as connection:
        [(timed,)] = connection.execute("SELECT count(*) > 0 AND count(*) = count(sent_at) FROM messages").fetchall()
    return bool(timed)


def channels(source: Source, layout: Layout) -> Iterator[Channel]:
    """The channels of a source; of annotated logs, each log by itself, all its lines included."""
    if source.format != "irc_annotated":
        yield from table_channels(open_normalised(layout.conversations(source.name)))
        return
    files = layout.raw(source.name) / "files"
    masker = Masker(source.name, salt(layout), aliases(files, source))
    for log in annotated_logs(files):
        yield log_channel(log, masked(log, masker, source.platform), source.name)
