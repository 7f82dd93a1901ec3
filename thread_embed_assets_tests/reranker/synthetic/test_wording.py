from __future__ import annotations

import re
from collections import defaultdict
from random import Random
from typing import get_args

import pytest

from thread_embed_assets.chat.model import Split
from thread_embed_assets.reranker.entities import keywords
from thread_embed_assets.reranker.synthetic.conversations import STATES
from thread_embed_assets.reranker.synthetic.people import values
from thread_embed_assets.reranker.synthetic.wording import TopicType, Wording, domains, keys, wordings

TYPES = set(get_args(TopicType))
IN_NAMES = {"Coin", "coin", "Coin2", "Adj", "noun", "Noun", "n", "no"}
SLOTS = {
    "about": {"x", "said", "subject"},
    "opening": {"need", "said", "x"},
    "reply": set(),
    "hear": set(),
    "assistant": {
        "said",
        "a",
        "b",
        "draft",
        "text",
        "action",
        "action2",
        "action3",
        "offer",
        "number",
        "date",
        "cost",
        "explain",
    },
}


def _letters(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9{}]+", text.lower()))


def test_five_domains_of_software_and_at_least_five_others_with_all_types_of_topic() -> None:
    assert sum(domain.software for domain in domains().values()) == 5
    assert sum(not domain.software for domain in domains().values()) >= 5
    assert {topic.type for domain in domains().values() for topic in domain.topics} == TYPES
    assert {kind for domain in domains().values() for t in domain.topics for kind in t.materials} <= {*STATES.values()}


def test_users_have_at_least_25_templates_for_each_act_and_every_split_has_some() -> None:
    for file in ("about", "reply"):
        for key in keys(file):
            assert sum(len(wordings(file, key, split)) for split in Split) >= 25, key
            assert min(len(wordings(file, key, split)) for split in Split) >= 5, key


@pytest.mark.parametrize("file", SLOTS)
def test_every_template_can_be_written(file: str) -> None:
    known = dict.fromkeys(SLOTS[file], "word") | values(Random(0))
    for key in keys(file):
        for split in Split:
            for wording in wordings(file, key, split):
                text = wording.write(Random(0), known)
                assert text == text.strip(), wording
                assert not re.search(r"[\[\]{}|]|  ", text), wording


@pytest.mark.parametrize("file", ["about", "opening", "reply"])
def test_no_split_can_write_what_another_one_writes(file: str) -> None:
    owners: dict[str, set[Split]] = defaultdict(set)
    for key in keys(file):
        for split in Split:
            for wording in wordings(file, key, split):
                for form in wording.forms():
                    owners[_letters(form)].add(split)
    assert [form for form, splits in owners.items() if len(splits) > 1] == []


def test_what_is_said_and_how_it_is_referred_to_share_no_telling_word() -> None:
    shared = []
    for domain in domains().values():
        for topic in domain.topics:
            for facet in topic.facets:
                for split in Split:
                    assert facet.said[split], facet.id
                    assert any(not asked.is_whole for asked in facet.asked[split]), facet.id
                    said = {word[:5] for wording in facet.said[split] for word in keywords(wording.pattern) if len(word) > 3}
                    for asked in facet.asked[split]:
                        stems = {word[:5] for word in keywords(asked.pattern) if len(word) > 3}
                        shared += [f"{asked.id}: {asked.pattern}"] if stems & said else []
    assert shared == []


def test_every_name_of_a_thing_needs_no_slot_that_names_do_not_fill() -> None:
    for domain in domains().values():
        for topic in domain.topics:
            assert all(
                set(re.findall(r"\{(\w+)\}", t)) <= {"Coin", "coin", "Coin2", "Adj", "noun", "Noun", "n", "no"}
                for t in topic.things
            )
            assert all("{e}" in need.pattern for split in Split for need in topic.needs[split])
            assert all(topic.also[split] for split in Split)
            assert all(choice.count(" vs ") == 1 for choice in topic.materials.get("choices", ()))
            assert len(topic.materials.get("actions", "---")) >= 3


def test_a_template_chooses_and_fills() -> None:
    wording = Wording("x", "[so |]{Said}, {p}[|!]")
    assert set(wording.forms()) == {"so {Said}, {p}", "so {Said}, {p}!", "{Said}, {p}", "{Said}, {p}!"}
    written = {wording.write(Random(seed), {"said": "it rains", "p": "Zu"}) for seed in range(40)}
    assert written == {"so It rains, Zu", "so It rains, Zu!", "It rains, Zu", "It rains, Zu!"}
