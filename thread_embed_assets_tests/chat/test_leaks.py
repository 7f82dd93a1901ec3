from __future__ import annotations

import pytest

from thread_embed_assets.chat import leaks as module
from thread_embed_assets.chat.leaks import SAMPLE, leaks, no_leaks

from .planted import sentences
from .planted_secrets import planted_secrets

PLANTED = planted_secrets()
BY_OTHERS = {
    "email": "e-mail address",
    "phone_international": "phone number",
    "ipv4": "public address",
    "aws_key": "AWS Access Key",
    "github_token": "GitHub Token",
    "slack_token": "Slack Token",
    "service_key": "Stripe Access Key",
    "bot_token": "Discord Bot Token",
    "web_token": "JSON Web Token",
    "private_key": "Private Key",
}


def test_every_planted_secret_leaks() -> None:
    assert [p.kind for p in PLANTED if not list(leaks(p.sentence))] == []


def test_other_detectors_find_what_the_maskers_own_would_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_secrets", lambda text: [])
    found = {kind: {leak for p in PLANTED if p.kind == kind for leak in leaks(p.sentence)} for kind in BY_OTHERS}
    assert {kind: leak in found[kind] for kind, leak in BY_OTHERS.items()} == dict.fromkeys(BY_OTHERS, True)


@pytest.mark.parametrize(
    "text", ["netmask 255.255.255.0, 127.0.0.1:80, 0.0.0.0", "[EMAIL] password: [SECRET]", "1+1 @ 2.50"]
)
def test_what_is_nobodys_leaks_nothing(text: str) -> None:
    assert list(leaks(text)) == []


def test_a_verdict_tells_where_and_what_kind_but_never_the_secret() -> None:
    texts = {f"m{n}": text for n, text in enumerate(sentences(40, "plain"))}
    assert no_leaks(texts.items(), len(texts)).passed
    for planted in PLANTED:
        verdict = no_leaks((texts | {"m7": planted.sentence}).items(), len(texts))
        assert not verdict.passed
        assert "1 of 40, such as m7 (" in verdict.description
        assert all(piece not in verdict.description for piece in (planted.secret, *planted.distinctive))


def test_of_many_texts_a_sample_is_drawn_by_id() -> None:
    many = [(f"m{n}", "all is well") for n in range(2_000)]
    checked = no_leaks(many, 10 * SAMPLE).numbers["checked"]
    assert 120 < checked < 290
    assert no_leaks(reversed(many), 10 * SAMPLE).numbers["checked"] == checked
    assert not no_leaks([], 0).passed
