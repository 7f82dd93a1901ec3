"""Embedding models behind an API: OpenAI's ``POST /v1/embeddings`` and Voyage's, which differ in a few fields."""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from thread_embed_assets.benchmark.embeddings import Role, Vectors
from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.language_models.service import ATTEMPTS, BusyError, busy, out_of_money, retrying, said
from thread_embed_assets.language_models.tokens import cut_to, estimate_tokens
from thread_embed_assets.storage.addresses import fault_of
from thread_embed_assets.storage.fingerprint import of_json

logger = logging.getLogger(__name__)

_TIMEOUT = httpx.Timeout(120.0, connect=20.0)


@dataclass(frozen=True)
class Provider:
    """A service, and what its documentation allows in one request.

    Attributes:
        name: the first part of a model's name, as in ``openai/text-embedding-3-small``.
        key_variable, url_variable: environment variables of the key and of another base URL.
        url: base URL, to which ``/embeddings`` is added.
        most_texts, most_tokens: in one request.
        longest: tokens of one text.
        input_type: whether a request says that its texts are queries or documents.
    """

    name: str
    key_variable: str
    url_variable: str
    url: str
    most_texts: int
    most_tokens: int
    longest: int
    input_type: bool = False


# Limits: platform.openai.com/docs/api-reference/embeddings (2,048 inputs, 300,000 tokens, 8,192 each) and
# docs.voyageai.com/reference/embeddings-api (1,000 inputs; 120,000 tokens is what its largest models take; 32,000 each, and
# the service writes a prompt of some ten tokens before each).
PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1", 2048, 300_000, 8191),
        Provider("voyage", "VOYAGE_API_KEY", "VOYAGE_BASE_URL", "https://api.voyageai.com/v1", 1000, 120_000, 31_900, True),
    )
}


def provider_of(model: str) -> Provider | None:
    """The provider that a model's name starts with, such as ``voyage/...``; None for folders and hub ids."""
    return PROVIDERS.get(model.partition("/")[0])


class ApiEncoder:
    """A model behind an API, as the embedding cache sees one.

    Requests hold as many texts and tokens as the documentation allows, by an estimate that is rather too high. Timeouts,
    cut connections and the answers 408, 409, 429 and 5xx are retried with growing pauses, or after the pause that
    ``Retry-After`` asks for. A text that is too long is cut and counted; a blank one is sent as a space, for the services
    refuse empty ones.

    Args:
        model: ``<provider>/<model>``, such as ``openai/text-embedding-3-small``.
        dollars_per_million_tokens: to tell the cost; None where it is not known.
        query_prompt, document_prompt: written before every query and document.

    Attributes:
        tokens: used so far, as the service counts them.
        cut: texts that were cut so far.

    Raises:
        InputError: no such provider, no key for it in the environment, or a base URL there that is none.
    """

    def __init__(
        self,
        model: str,
        dollars_per_million_tokens: float | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
    ) -> None:
        provider = provider_of(model)
        if provider is None:
            raise InputError(f"model '{model}'", "no API of that name is known", f"Known: {', '.join(PROVIDERS)}")
        key = os.environ.get(provider.key_variable, "").strip()
        if not key:
            raise InputError(f"model '{model}'", no_key(provider), f"Set {provider.key_variable}")
        self._name = model
        self._provider = provider
        self._model = model.partition("/")[2]
        self._key = key
        self._url = (os.environ.get(provider.url_variable) or provider.url).rstrip("/")
        if fault := fault_of(self._url):
            raise InputError(provider.url_variable, fault, f"Give it the form of {provider.url}, or unset it")
        self._dollars = dollars_per_million_tokens
        self._prompts: dict[Role, str] = {"query": query_prompt or "", "document": document_prompt or ""}
        self._client = httpx.Client(timeout=_TIMEOUT, headers={"Authorization": f"Bearer {key}"})
        self.tokens = 0
        self.cut = 0
        self._told = (0, 0)

    @property
    def fingerprint(self) -> str:
        """Of the model's name, the server where it is not the provider's own, and the prompts.

        A service may change its model under the same name; then delete the folder of this name from the embedding cache.
        """
        own = self._url if self._url != self._provider.url else ""
        return "api-" + of_json([self._name, own, self._prompts])

    def role_key(self, role: Role) -> str:
        same = self._prompts["query"] == self._prompts["document"] and not self._provider.input_type
        return "" if same else role

    def prepare(self, texts: Sequence[str]) -> None:
        """Log how many texts go where, and about what it will cost."""
        tokens = sum(map(estimate_tokens, texts))
        place = httpx.URL(self._url).host
        logger.info("%s: %d texts go to %s, at most about %s", self._name, len(texts), place, self._cost(tokens))

    def encode(self, texts: Sequence[str], role: Role) -> npt.NDArray[Any]:
        """Vectors [len(texts), dim].

        Raises:
            InputError: the service refuses, answers with something else than vectors, or has failed several times on end.
        """
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        vectors = [self._request(batch, role) for batch in self._batches(texts, role)]
        logger.info("%s: %s used so far", self._name, self._cost(self.tokens))
        if len({part.shape[1] for part in vectors}) > 1:
            raise self._strange("vectors of different lengths")
        return np.concatenate(vectors)

    def usage(self) -> Mapping[str, float]:
        """Tokens, dollars and texts cut since the last call; no dollars where the price is not known."""
        tokens, cut = self.tokens - self._told[0], self.cut - self._told[1]
        self._told = (self.tokens, self.cut)
        used: dict[str, float] = {"tokens": tokens, "cut": cut}
        return used if self._dollars is None else used | {"dollars": tokens * self._dollars / 1e6}

    def _cost(self, tokens: int) -> str:
        if self._dollars is None:
            return f"{tokens:,} tokens (price not known)"
        return f"{tokens:,} tokens, ${tokens * self._dollars / 1e6:.4f}"

    def _batches(self, texts: Sequence[str], role: Role) -> Iterator[list[str]]:
        batch: list[str] = []
        tokens = 0
        for text in texts:
            whole = self._prompts[role] + text
            sent = cut_to(whole, self._provider.longest)
            if sent != whole:
                self.cut += 1
                logger.warning("%s: a text of %d characters is cut to %d", self._name, len(whole), len(sent))
            sent = sent if sent.strip() else " "
            size = max(1, estimate_tokens(sent))
            if batch and (len(batch) == self._provider.most_texts or tokens + size > self._provider.most_tokens):
                yield batch
                batch, tokens = [], 0
            batch.append(sent)
            tokens += size
        if batch:
            yield batch

    def _request(self, texts: Sequence[str], role: Role) -> Vectors:
        body: dict[str, Any] = {"model": self._model, "input": list(texts), "encoding_format": "base64"}
        if self._provider.input_type:
            body["input_type"] = role
        try:
            answer = retrying(logger)(self._post, body)
        except BusyError as error:
            problem = f"{error} to {ATTEMPTS} attempts"
            raise TransientError(self._place, problem, "Run again later: what is embedded is kept") from error
        except httpx.HTTPError as error:
            problem = f"no answer after {ATTEMPTS} attempts ({type(error).__name__}: {self._without_key(str(error))})"
            kind = TransientError if isinstance(error, httpx.TransportError) else InputError
            raise kind(self._place, problem, "Check the network and run again: what is embedded is kept") from error
        return self._vectors(answer, len(texts))

    def _post(self, body: Mapping[str, Any]) -> httpx.Response:
        answer = self._client.post(f"{self._url}/embeddings", json=body)
        status = answer.status_code
        if status == httpx.codes.OK:
            return answer
        reason = self._without_key(said(answer))
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            problem = f"the server does not accept the key of {self._provider.key_variable} ({status})"
            raise InputError(self._place, problem, f"Check {self._provider.key_variable}, and what that key may use")
        if out_of_money(answer):
            problem = f"the account has no credit left ({reason})"
            raise InputError(self._place, problem, "Add credit, or leave this model out")
        if error := busy(answer):
            raise error
        problem = f"the server refuses {len(body['input'])} texts ({status}: {reason})"
        raise InputError(self._place, problem, f"Check the model's name and {self._provider.url_variable}")

    def _vectors(self, answer: httpx.Response, count: int) -> Vectors:
        try:
            content = answer.json()
            by_index = {int(item["index"]): _vector(item["embedding"]) for item in content["data"]}
            sent = len(content["data"])
            self.tokens += int(content["usage"]["total_tokens"])
        except (ValueError, TypeError, KeyError, binascii.Error) as error:
            raise self._strange(f"something else than vectors ({type(error).__name__}: {error})") from error
        if sent != count or sorted(by_index) != list(range(count)):
            raise self._strange(f"{sent} vectors with {len(by_index)} different indexes for {count} texts")
        if len({vector.shape for vector in by_index.values()}) > 1:
            raise self._strange("vectors of different lengths")
        return np.stack([by_index[place] for place in range(count)])

    def _strange(self, what: str) -> InputError:
        remedy = f"Check {self._provider.url_variable}: it must speak {self._provider.name}'s POST /v1/embeddings"
        return InputError(self._place, f"the server answered with {what}", remedy)

    @property
    def _place(self) -> str:
        return f"{self._name} at {self._url}"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***")


def no_key(provider: Provider) -> str:
    """Why a provider's models cannot run here."""
    return f"{provider.key_variable} is not set"


def _vector(sent: Any) -> Vectors:
    if isinstance(sent, str):
        return np.frombuffer(base64.b64decode(sent, validate=True), dtype="<f4").astype(np.float32)
    vector = np.asarray(sent, dtype=np.float32)
    if vector.ndim != 1:
        raise ValueError(f"an embedding of shape {vector.shape}")
    return vector
