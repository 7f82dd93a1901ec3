from __future__ import annotations

import pytest

from thread_embed_assets.language_models.tokens import cut_to, estimate_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("the build is green again", 8),
        ("NASA", 2),
        ("1234567890", 4),
        ("a/b?c=d", 7),
        ("x" * 40, 40),
        ("QmFzZTY0IGRhdGE", 9),
        ("早上好", 9),
        ("one\n\ntwo", 3),
    ],
)
def test_estimates_are_rather_too_high(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens <= len(text.encode())


@pytest.mark.parametrize("text", ["one two three four five", "x" * 500, "look: " + "x" * 500, "早上好" * 50, "a\n" * 40])
def test_a_cut_text_is_a_start_within_the_limit(text: str) -> None:
    for most in (1, 5, 20, 100):
        start = cut_to(text, most)
        assert text.startswith(start)
        assert estimate_tokens(start) <= most
        assert start == text or most < 3 or len(start) >= most // 3
