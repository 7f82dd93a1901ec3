"""What asking a language model costs: estimated before, rather too high, and held below a cap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.tokens import estimate_tokens

if TYPE_CHECKING:
    from thread_embed_assets.language_models.writers import Request, Task

PRICES = Path(__file__).with_name("prices.yaml")
_ENVELOPE = 100  # tokens that a service adds around prompt, text and schema


class Price(BaseModel):
    """What a model costs.

    Attributes:
        input, output: dollars for a million tokens.
        thinking: what a request says about it; ``none`` says nothing, for a model that does not think.
        tokens: how many times the tokens that ``language_models/tokens.py`` counts.
        prompt_tokens: longer prompts cost more than this, and are not sent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    thinking: Literal["none", "disabled", "between_tools"] = "none"
    tokens: float = Field(default=1.0, ge=1)
    prompt_tokens: int = Field(default=100_000, gt=0)

    def dollars(self, input_tokens: float, output_tokens: float) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1e6

    def times(self, share: float) -> Price:
        """The same, dearer or cheaper."""
        return self.model_copy(update={"input": self.input * share, "output": self.output * share})


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")

    date: object
    source: str
    batch_share: float = Field(gt=0, le=1)
    models: dict[str, Price]


@lru_cache
def _table() -> _Table:
    try:
        return _Table.model_validate(yaml.safe_load(PRICES.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise InputError(PRICES, f"it is no price table ({error})", "Mend it by the notes in it") from error


def price_of(model: str, batch: bool = False) -> Price:
    """A model's price by the table.

    Raises:
        InputError: the table does not know the model, so that no budget could be kept.
    """
    table = _table()
    if model not in table.models:
        problem = f"it has no price for {model!r} (known: {', '.join(table.models)})"
        raise InputError(PRICES, problem, f"Add a line for it from {table.source}, and set the date")
    return table.models[model].times(table.batch_share if batch else 1.0)


@dataclass(frozen=True)
class Estimate:
    """The most that some requests may use."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0

    def __str__(self) -> str:
        tokens = f"{self.input_tokens:,} tokens in and {self.output_tokens:,} out"
        return f"{self.requests:,} requests, at most {tokens}, at most ${self.dollars:.4f}"


def estimate(task: Task, requests: Iterable[Request], price: Price | None) -> Estimate:
    """The most that these requests may use, as if every answer were as long as allowed.

    Raises:
        InputError: a request is so long that the price table does not hold for it.
    """
    factor = price.tokens if price else 1.0
    overhead = estimate_tokens(task.overhead) + _ENVELOPE
    count = tokens = 0
    for request in requests:
        count += 1
        size = ceil(factor * (overhead + estimate_tokens(request.text)))
        if price and size > price.prompt_tokens:
            problem = f"its prices hold up to {price.prompt_tokens:,} tokens, a request may have {size:,}"
            raise InputError(PRICES, problem, "Cut the texts shorter")
        tokens += size
    out = count * task.answer_tokens
    return Estimate(count, tokens, out, price.dollars(tokens, out) if price else 0.0)


def within_budget(expected: Estimate, budget: float, writer: str) -> None:
    """Raises InputError if the requests may cost more than the budget; nothing has been sent then."""
    if expected.dollars > budget:
        raise InputError(
            f"writer '{writer}'",
            f"{expected}, which is more than the budget of ${budget:.2f}; nothing was sent",
            "Raise budget_usd, lower limit, or choose a cheaper model",
        )
