"""A second look at masked text: by the masker's own detectors, and by others that know nothing of its shortcuts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from detect_secrets.plugins.base import BasePlugin
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.ip_public import IPPublicDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from phonenumbers import PhoneNumberMatcher

from thread_embed_assets.chat.credentials import LIBRARY
from thread_embed_assets.chat.secrets import find_secrets
from thread_embed_assets.storage.fingerprint import fraction
from thread_embed_assets.verdict import Verdict, no_faults

SAMPLE = 20_000
# The detectors of detect-secrets that ask for a form. Those that ask for entropy, or for the name of a product nearby
# (Artifactory, Cloudant, IBM, Softlayer), call much else a secret.
_LIBRARY: tuple[type[BasePlugin], ...] = (*LIBRARY, BasicAuthDetector, JwtTokenDetector, NpmDetector, PrivateKeyDetector)
_DETECTORS = tuple(detector() for detector in _LIBRARY)
_PUBLIC_ADDRESS = IPPublicDetector()
_EMAIL = re.compile(r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")


def leaks(text: str) -> Iterator[str]:
    """What kinds of personal or secret strings stand in a text; never the strings themselves."""
    yield from (found.kind for found in find_secrets(text))
    yield from (detector.secret_type for detector in _DETECTORS for _ in detector.analyze_string(text))
    for address in _PUBLIC_ADDRESS.analyze_string(text):
        if ipaddress.ip_address(address.partition(":")[0]).is_global:
            yield "public address"
    if "@" in text and _EMAIL.search(text):
        yield "e-mail address"
    if "+" in text and PhoneNumberMatcher(text, None).has_next():
        yield "phone number"


def no_leaks(texts: Iterable[tuple[str, str]], count: int) -> Verdict:
    """No sampled text holds a personal or secret string.

    Args:
        texts: ids with their texts.
        count: how many there are; of more than :data:`SAMPLE`, about as many are drawn, by their ids.
    """
    share = min(1.0, SAMPLE / max(1, count))
    faults: list[str] = []
    checked = 0
    for key, text in texts:
        if fraction("leaks", key) < share:
            checked += 1
            if kinds := sorted(set(leaks(text))):
                faults.append(f"{key} ({', '.join(kinds)})")
    return no_faults("texts with personal or secret strings", faults, checked)
