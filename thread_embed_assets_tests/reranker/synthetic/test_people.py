from __future__ import annotations

from collections import Counter
from random import Random

from wordfreq import zipf_frequency

from thread_embed_assets.chat.formats import MENTION
from thread_embed_assets.chat.model import Split
from thread_embed_assets.reranker.synthetic.people import PROFILES, Style, invented, name_like, profile
from thread_embed_assets.reranker.synthetic.wording import domains


def test_every_domain_has_users_in_every_split_in_the_declared_shares() -> None:
    users = [profile(number, 0) for number in range(PROFILES)]
    assert len({user.id for user in users}) == PROFILES == 500
    counts = Counter(user.split for user in users)
    assert counts[Split.DEV] in range(45, 56)
    assert counts[Split.TEST] in range(45, 56)
    assert {(u.domain.name, u.split) for u in users} == {(name, split) for name in domains() for split in Split}
    assert all(user.side.software != user.domain.software for user in users)


def test_a_user_is_the_same_in_every_build_and_another_with_another_seed() -> None:
    assert profile(7, 0) == profile(7, 0)
    assert profile(7, 0).seed != profile(7, 1).seed
    assert profile(7, 0).user != profile(7, 0).assistant
    assert MENTION.fullmatch(f"<@{profile(7, 0).user}>")


def test_names_are_nobodys() -> None:
    draw = Random(0)
    names = {invented(draw) for _ in range(500)}
    assert len(names) > 400
    assert all(zipf_frequency(name, "en") == 0 for name in names)
    assert name_like("{Coin} & {Noun} {n}", draw) != name_like("{Coin} & {Noun} {n}", draw)


def test_typing_changes_letters_and_never_those_that_are_spared() -> None:
    plain, sloppy = Style(0, 0, 0, 1), Style(1, 1, 0, 0)
    assert plain.type("where are we with Brello? i forgot.", Random(0)) == "Where are we with Brello? I forgot."
    for seed in range(50):
        text = sloppy.type("any progress on the Brello wedding?", Random(seed), "the Brello wedding")
        assert text == text.lower() != "any progress on the brello wedding"
        assert text.endswith("the brello wedding")
