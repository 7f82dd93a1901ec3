from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml

from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models import cost
from thread_embed_assets.language_models.cost import PRICES, Estimate, Price, estimate, price_of, within_budget
from thread_embed_assets.language_models.tokens import estimate_tokens
from thread_embed_assets.language_models.writers import Request, read_task

TASK = read_task("summarise")
PRICE = Price(input=2.0, output=10.0)


def test_the_table_says_when_and_where_prices_were_read() -> None:
    table = yaml.safe_load(PRICES.read_text(encoding="utf-8"))
    assert isinstance(table["date"], date) and table["source"].startswith("https://")
    for model in table["models"]:
        assert price_of(model, batch=True).output == price_of(model).output * table["batch_share"] > 0


def test_an_unknown_model_has_no_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no price for 'nobody'.*Add a line"):
        price_of("nobody")
    broken = tmp_path / "prices.yaml"
    broken.write_text("models: [1]\n", encoding="utf-8")
    monkeypatch.setattr(cost, "PRICES", broken)
    cost._table.cache_clear()
    with pytest.raises(InputError, match="it is no price table"):
        price_of("claude-haiku-5-5")
    monkeypatch.undo()
    cost._table.cache_clear()


def test_an_estimate_is_the_most_that_it_can_be() -> None:
    texts = ["speaker_1: a short one", "speaker_1: " + "many words " * 300]
    found = estimate(TASK, [Request(str(n), text) for n, text in enumerate(texts)], PRICE)
    assert found.requests == 2
    assert found.input_tokens > sum(map(estimate_tokens, texts)) + 2 * estimate_tokens(TASK.instructions)
    assert found.output_tokens == 2 * TASK.answer_tokens
    assert found.dollars == pytest.approx((2 * found.input_tokens + 10 * found.output_tokens) / 1e6)
    dearer = PRICE.model_copy(update={"tokens": 1.5})
    assert estimate(TASK, [Request("0", texts[0])], dearer).input_tokens == pytest.approx(
        1.5 * estimate(TASK, [Request("0", texts[0])], PRICE).input_tokens, abs=1
    )
    assert estimate(TASK, [], PRICE) == Estimate()
    with pytest.raises(InputError, match=r"prices hold up to 2,000 tokens, a request may have \d,\d+"):
        estimate(TASK, [Request("0", "many words " * 900)], PRICE.model_copy(update={"prompt_tokens": 2000}))
    assert estimate(TASK, [Request("0", texts[0])], None).dollars == 0


def test_what_may_cost_more_than_the_budget_is_refused() -> None:
    within_budget(Estimate(1, 10, 10, 0.5), 0.5, "w")
    with pytest.raises(
        InputError, match=r"3 requests, at most 1,000 tokens in .*\$0.5100.*budget of \$0.50; nothing was sent"
    ):
        within_budget(Estimate(3, 1000, 10, 0.51), 0.5, "w")
