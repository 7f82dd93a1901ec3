from __future__ import annotations

import pytest

from thread_embed_assets.sources.member_names import author_names, name_parts, sole_owners


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Ada Lowe", {"Ada", "Lowe"}),
        ("Ada Mary Lowe", {"Ada", "Lowe"}),
        ("Ada Lowe (she/her)", {"Ada", "Lowe"}),
        ("Ada Lowe-Marsh 🚀", {"Ada", "Lowe-Marsh"}),
        ("Bo Li", set()),
        ("Dr. Zoë Ek", set()),
        ("Zoë O'Neil", {"Zoë", "O'Neil"}),
        ("ada.l", {"ada.l"}),
        ("", set()),
    ],
)
def test_first_and_last_names(name: str, parts: set[str]) -> None:
    assert name_parts([name]) == parts


def test_a_name_that_two_share_leads_to_neither() -> None:
    names = {"ada": {"ada", "Ada", "U1", "Sam"}, "ben": {"ben", "sam", "U2"}}
    assert sole_owners(names) == {"Ada": "ada", "U1": "ada", "U2": "ben"}


def test_the_author_name_is_the_first_that_nobody_shares() -> None:
    names = {"1": ["sam", "Sam Oak"], "2": ["Sam", "sam2"], "3": ["SAM"], "4": []}
    assert author_names(names) == {"1": "Sam Oak", "2": "sam2", "3": "3", "4": "4"}
