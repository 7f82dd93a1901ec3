from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from thread_embed_assets.chat.duplicates import DUPLICATES, dropped_ids, find_duplicates, held_out_shingles
from thread_embed_assets.chat.near_copies import HeldOutShingles, shingles
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.tables import TableHandle, open_table

from .planted import Stored, sentences, store

TEXTS = sentences(6, "one that is copied")
Sources = Mapping[str, Sequence[Stored]]
Rows = list[dict[str, Any]]


def strangers(seed: str, count: int = 3) -> list[Stored]:
    """Conversations of which nothing stands elsewhere, but for what people say everywhere."""
    said = ["thanks a lot for your help", "you are very welcome, see you", "how are you doing today my friend"]
    return [Stored(f"{seed}-{n}", [said[n % 3], *sentences(4, f"{seed}{n}"), said[(n + 1) % 3]]) for n in range(count)]


def tables(tmp_path: Path, sources: Sources, of: Sequence[str] = (), order: Sequence[str] = ()) -> dict[str, TableHandle]:
    stored = {name: store(tmp_path / "stored" / f"{name}.duckdb", talks) for name, talks in sources.items()}
    found: dict[str, TableHandle] = {}
    for name in of or sources:
        others = {other: normalised for other, normalised in stored.items() if other != name}
        path = tmp_path / "duplicates" / f"{name}.duckdb"
        found[name] = find_duplicates(name, stored[name], others, order or list(sources), path, tmp_path / "cache")
    return found


def find(tmp_path: Path, sources: Sources, of: Sequence[str] = (), order: Sequence[str] = ()) -> dict[str, Rows]:
    return {name: list(table.rows_as_dicts()) for name, table in tables(tmp_path, sources, of, order).items()}


def row(conversation: str, kind: str, of_source: str, of: str, split: str, dropped: bool, containment: float = 1.0) -> Any:
    values = (conversation, kind, of_source, of, split, pytest.approx(containment, abs=1e-6), dropped)
    return dict(zip(DUPLICATES.names, values, strict=True))


def changed(texts: Sequence[str], seed: int = 0) -> list[str]:
    """One word of every second text replaced."""
    draw = Random(seed)
    lines = [text.split() for text in texts]
    for words in lines[::2]:
        words[draw.randrange(len(words))] = "otherwise"
    return [" ".join(words) for words in lines]


def share(texts: Sequence[str], of: Sequence[str]) -> float:
    counts = HeldOutShingles(of).hits_of_each(texts)
    return sum(hits for hits, _ in counts) / sum(total for _, total in counts)


def test_of_two_equal_conversations_the_later_is_dropped(tmp_path: Path) -> None:
    rewritten = [f"<@p_00000000cc>: {' '.join(TEXTS[:2]).upper()}!", *TEXTS[2:]]
    sources = {
        "first": [*strangers("a"), Stored("copied", TEXTS), *strangers("b")],
        "second": [Stored("copy", rewritten), Stored("copy of it", TEXTS), *strangers("c")],
        "third": [*strangers("d"), Stored("again", TEXTS)],
    }
    found = find(tmp_path, sources)
    assert found["first"] == []
    assert found["second"][0] == row("copy", "exact", "first", "copied", "train", True)
    assert [r["conversation_id"] for r in found["second"] if r["dropped"]] == ["copy", "copy of it", "copy of it"]
    assert open_table(tmp_path / "duplicates" / "second.duckdb", "duplicates").counts["dropped"] == 2
    assert found["third"][0] == row("again", "exact", "first", "copied", "train", True)
    backwards = find(tmp_path, sources, ["first"], ["third", "second", "first"])
    assert {r["conversation_id"] for r in backwards["first"] if r["dropped"]} == {"copied"}


def test_of_two_that_are_nearly_equal_the_later_is_dropped(tmp_path: Path) -> None:
    near = changed(TEXTS)
    inside = [*strangers("a"), Stored("copied", TEXTS), Stored("near", near), *strangers("b")]
    found = find(tmp_path, {"only": inside, "other": [Stored("nearer", TEXTS[:5])]})
    assert 0.6 < share(near, TEXTS) < 0.95
    assert found["only"] == [row("near", "near", "only", "copied", "train", True, share(near, TEXTS))]
    of_near = row("nearer", "near", "only", "near", "train", True, share(TEXTS[:5], near))
    assert found["other"] == [row("nearer", "near", "only", "copied", "train", True), of_near]


def test_less_than_half_or_the_same_words_in_another_order_is_no_copy(tmp_path: Path) -> None:
    words = " ".join(TEXTS).split()
    Random(1).shuffle(words)
    shuffled = [" ".join(words[n : n + 12]) for n in range(0, len(words), 12)]
    halves = [" ".join([*a.split()[:9], *b.split()[:8]]) for a, b in zip(TEXTS, sentences(6, "fresh"), strict=True)]
    assert 0.3 < share(halves, TEXTS) < 0.5
    sources = {"a": [Stored("copied", TEXTS)], "b": [Stored("shuffled", shuffled), Stored("halves", halves)]}
    assert find(tmp_path, sources, "b") == {"b": []}


def test_a_quotation_is_listed_and_kept(tmp_path: Path) -> None:
    long = " ".join(sentences(3, "a long message"))
    quoting = [*sentences(6, "quoting"), f'{long} "so they say"']
    sources = {"a": [Stored("quoted", [*TEXTS, long])], "b": [Stored("quotes", quoting), *strangers("b")]}
    containment = share([quoting[-1]], [long])
    assert find(tmp_path, sources, "b")["b"] == [row("quotes", "quoted", "a", "quoted", "train", False, containment)]


HELD = sentences(6, "held out")


def copied(kind: str, held: Sequence[str]) -> list[str]:
    copies = {
        "exact": [text.upper() for text in held],
        "near": changed(held),
        "quoted": [*sentences(6, f"quoting {held[3]}"), held[3]],
    }
    return copies[kind]


@pytest.mark.parametrize("order", ["ab", "ba", "a"])
def test_what_is_held_out_anywhere_is_dropped_everywhere(tmp_path: Path, order: str) -> None:
    own, others, expected = strangers("a"), strangers("b"), []
    source = order if order == "a" else "b"
    for kind in ("exact", "near", "quoted"):
        for split, of_split in (("train", "test"), ("train", "dev"), ("dev", "test")):
            name = f"{kind} {split} {of_split}"
            held = sentences(6, name)
            own.append(Stored(f"copy {name}", copied(kind, held), split=split))
            others.insert(0, Stored(f"held {name}", held, split=of_split))
            containment = share(copied(kind, held), held) if kind == "near" else 1.0
            expected.append(row(f"copy {name}", kind, source, f"held {name}", of_split, True, containment))
    sources = {"a": [*own, *others]} if order == "a" else {"a": own, "b": others}
    assert find(tmp_path, sources, "a", order)["a"] == expected


@pytest.mark.parametrize("split", ["test", "dev"])
def test_duplicates_within_what_is_held_out_stay(tmp_path: Path, split: str) -> None:
    sources = {"a": [Stored("held", HELD, split=split)], "b": [*strangers("b"), Stored("copy", changed(HELD), split=split)]}
    containment = share(changed(HELD), HELD)
    assert find(tmp_path, sources, "b")["b"] == [row("copy", "near", "a", "held", split, False, containment)]


def test_test_may_hold_what_trains(tmp_path: Path) -> None:
    found = find(tmp_path, {"a": [Stored("trained", HELD)], "b": [Stored("held", HELD, split="test")]})
    assert found["b"] == []
    assert [r["dropped"] for r in found["a"]] == [True]


def test_what_is_put_together_from_held_out_conversations_is_dropped(tmp_path: Path) -> None:
    mixed = [
        " ".join([*one.split()[:12], *other.split()[:4]]) for one, other in zip(HELD, sentences(6, "rest"), strict=True)
    ]
    sources = {
        "a": [Stored("mixed", mixed), *strangers("a")],
        "b": [Stored(f"held {n}", [HELD[n], HELD[n + 1], *sentences(3, n)], split="test") for n in (0, 2, 4)],
    }
    [found] = find(tmp_path, sources, "a")["a"]
    assert share(mixed, HELD[:2]) < 0.4
    assert found == row("mixed", "near", "b", found["of_conversation_id"], "test", True, share(mixed, HELD))


def test_a_quotation_is_of_the_conversation_that_holds_the_message(tmp_path: Path) -> None:
    fresh = sentences(12, "fresh")
    mixed = [" ".join([*one.split()[:9], *other.split()[:8]]) for one, other in zip(HELD, fresh, strict=False)]
    own = Stored("own", [*mixed, TEXTS[0], *fresh[6:]])
    held = [Stored("much of it", HELD, split="test"), Stored("the message", TEXTS[:2], split="test")]
    assert sum(hits for hits, _ in HeldOutShingles(HELD).hits_of_each(mixed)) > 2 * len(shingles(TEXTS[0]))
    found = find(tmp_path, {"a": [own], "b": held}, "a")
    assert found["a"] == [row("own", "quoted", "b", "the message", "test", True)]


def test_a_copy_of_what_is_dropped_for_held_out_text_stays(tmp_path: Path) -> None:
    rest = sentences(6, "rest")
    leaks, copy = [*rest, HELD[0]], [*rest, *sentences(1, "another")]
    sources = {"a": [Stored("leaks", leaks), Stored("copy", copy)], "b": [Stored("held", HELD, split="test")]}
    found = find(tmp_path, sources, "a")
    near = row("copy", "near", "a", "leaks", "train", False, share(copy, leaks))
    assert found["a"] == [row("leaks", "quoted", "b", "held", "test", True), near]


def test_pleasantries_are_no_duplicates(tmp_path: Path) -> None:
    short = [
        Stored(f"short{n}", ["hi there", "hello how are you", "fine thanks and you", word])
        for n, word in enumerate(["never better", "could be worse", "same as ever"])
    ]
    wordless = [
        Stored("smile", ["🙂", "🎉", "🎉"], split="test"),
        Stored("smiles", ["🙂", "!!", "?"]),
        Stored("?", ["?"] * 3),
    ]
    sources = {"a": [*strangers("a", 30), *short[:2]], "b": [*strangers("b", 30), short[2], *wordless]}
    assert find(tmp_path, sources, "b") == {"b": []}


def test_short_conversations_count_when_all_their_words_are_equal(tmp_path: Path) -> None:
    short = ["where is it", "in the drawer", "found it"]
    found = find(tmp_path, {"a": [Stored("one", short)], "b": [Stored("two", short), Stored("held", short, split="test")]})
    assert found["a"] == [row("one", "exact", "b", "held", "test", True)]
    assert found["b"][0] == row("two", "exact", "b", "held", "test", True)


def test_of_what_is_posted_over_and_over_one_stays(tmp_path: Path) -> None:
    posted = [Stored(f"p{n:02}", [f"{text} {n}" for text in TEXTS]) for n in range(70)]
    found = tables(tmp_path, {"a": [*strangers("a"), *posted[:35]], "b": posted[35:]})
    dropped = [dropped_ids(table) for table in found.values()]
    assert [p.id for p in posted if not any(p.id in ids for ids in dropped)] == ["p00"]


@pytest.mark.parametrize("seed", range(2))
def test_of_every_planted_pair_exactly_one_is_dropped(tmp_path: Path, seed: int) -> None:
    draw = Random(seed)
    names = ["a", "b", "c"]
    sources: dict[str, list[Stored]] = {name: strangers(f"{name}{seed}", 5) for name in names}
    pairs: list[tuple[tuple[str, str], tuple[str, str]]] = []
    for n in range(12):
        texts = sentences(draw.randint(3, 12), f"{seed} {n}")
        twin = texts if n % 2 else changed(texts, n)
        places = [draw.choice(names), draw.choice(names)]
        for place, side, said in zip(places, "xy", [texts, twin], strict=True):
            sources[place].insert(draw.randrange(len(sources[place]) + 1), Stored(f"{n}{side}", said))
        pairs.append(((places[0], f"{n}x"), (places[1], f"{n}y")))
    found = tables(tmp_path, sources)
    dropped = {name: dropped_ids(table) for name, table in found.items()}
    for pair in pairs:
        comes = sorted(pair, key=lambda p: (names.index(p[0]), [s.id for s in sources[p[0]]].index(p[1])))
        assert [name in dropped[source] for source, name in comes] == [False, True]
    assert sum(table.counts["dropped"] for table in found.values()) == len(pairs)


def test_counts_say_what_was_found_and_where(tmp_path: Path) -> None:
    copies = [Stored("e", copied("exact", HELD)), Stored("n", changed(TEXTS)), Stored("q", copied("quoted", HELD))]
    others = [Stored("held", HELD, split="test"), Stored("before", TEXTS)]
    table = tables(tmp_path, {"b": others, "a": [*strangers("a"), *copies]}, "a")["a"]
    counts = {"conversations": 6, "exact": 1, "near": 1, "quoted": 2, "of_a": 1, "of_b": 3, "dropped": 3}
    assert table.counts == counts  # the quotation stands in the exact copy, too
    assert table.schema.equals(DUPLICATES)


def test_the_same_table_comes_out_again(tmp_path: Path) -> None:
    sources = {"a": [*strangers("a"), Stored("x", TEXTS)], "b": [Stored("y", changed(TEXTS)), Stored("z", TEXTS)]}
    first, again, elsewhere = (tables(tmp_path / place, sources, "b")["b"] for place in ("here", "here", "elsewhere"))
    assert first.fingerprint == again.fingerprint == elsewhere.fingerprint
    assert [p.name for p in (tmp_path / "here" / "duplicates").iterdir()] == ["b.duckdb"]


def test_nothing_found_is_an_empty_table(tmp_path: Path) -> None:
    table = tables(tmp_path, {"a": strangers("a")})["a"]
    assert (table.rows, dict(table.counts)) == (0, {"conversations": 3, "dropped": 0})
    assert "a-0" not in dropped_ids(table)


def test_dropped_ids_are_those_of_the_table(tmp_path: Path) -> None:
    twins = [Stored(f"x{n}", sentences(4, n)) for n in range(50)]
    copies = [Stored(f"y{n}", twin.texts) for n, twin in enumerate(twins)]
    dropped = dropped_ids(tables(tmp_path, {"a": twins, "b": [*copies, *strangers("b")]}, "b")["b"])
    assert [f"y{n}" in dropped for n in range(51)] == [True] * 50 + [False]
    assert not any(t.id in dropped for t in [*twins, *strangers("b")])
    assert len(dropped) == 50  # type: ignore[arg-type]


def test_of_what_is_held_out_anywhere_the_part_that_stands_here_is_kept_beside(tmp_path: Path) -> None:
    dev, elsewhere = sentences(6, "dev"), sentences(2, "elsewhere")
    own = [*strangers("a"), Stored("copy", changed(HELD)), Stored("tuned", [*dev[:3], *HELD[:2]], split="dev")]
    others = [Stored("test", [*HELD, *elsewhere], split="test"), Stored("dev", dev, split="dev")]
    closed = held_out_shingles(tables(tmp_path, {"a": own, "b": others}, "a")["a"])
    all_held_out = {"train": HeldOutShingles([*HELD, *elsewhere, *dev, *own[-1].texts]), "dev": HeldOutShingles(HELD)}
    for split, complete in all_held_out.items():
        texts = [text for talk in own if talk.split == split for text in talk.texts]
        assert closed[split].hits_of_each(texts) == complete.hits_of_each(texts)
        assert not any(map(closed[split].is_near_copy, elsewhere))


def test_a_source_without_a_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks b") as error:
        tables(tmp_path, {"a": strangers("a"), "b": strangers("b")}, order=["a"])
    assert "Name every source" in str(error.value)
