"""Which names are also words, so that masking each of their occurrences would eat ordinary text."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

# Zipf frequency (wordfreq; 4.0 is once per 100,000 words) from which a word is an everyday one, and from which it is known.
_EVERYDAY = 4.0
_KNOWN = 3.0

# Everyday by their frequency, yet hardly ever anything but a name.
_NAMES = """
aaron adam alan albert alex alexander ali alice amanda amy andrew andy angela ann anna anne anthony antonio arthur
ashley barbara barry ben benjamin bernard billy bob bobby brad bradley brandon brian bruce carl carlos carol caroline
catherine charles charlie charlotte chris christopher colin craig dan daniel danny dave david dennis derek diego donald
douglas duncan dylan eddie edward elizabeth ellen emily emma eric francis fred gary george gordon graham greg hannah
harold harry helen henry howard ian jacob jake james jamie jane jason jeff jennifer jeremy jerry jesse jessica jim jimmy
joan joe john johnny jon jonathan jose joseph josh joshua juan julia julie justin karen karl kate keith kelly ken
kenneth kevin kim kyle larry laura lawrence leo leonard lewis linda lisa logan louis lucy luke malcolm marc marcus
margaret maria marie mario martin mary matt matthew michael michelle mike mitchell nancy nathan neil nicholas norman
oliver oscar patrick paul peter phil philip rachel ralph richard robert roger ron ross roy russell ruth ryan sam samuel
sara sarah scott sean simon spencer stanley stephen steve steven stuart susan ted terry thomas tim timothy todd tom
tommy tony travis tyler victor vincent walter warren wayne william
"""
# Rarer words that people take for a nick and rooms are about: of 6,081 bare words equal to the nick of a speaker in the
# annotated Ubuntu IRC logs, 745 are "ubuntu".
_TOPICS = """
ubuntu kubuntu xubuntu lubuntu linux debian fedora gentoo arch knoppix unix kernel grub gnome kde xfce firefox apache
perl python bash vim emacs docker kubernetes git github gitlab slack discord irc admin root bot foo bar baz radeon
nvidia localhost desktop sda gdb verbose racket elm lisp haskell
"""
_GIVEN_NAMES, _TOPIC_WORDS = frozenset(_NAMES.split()), frozenset(_TOPICS.split())


class Sense(Enum):
    """What a name mostly is where it stands in a text."""

    NAME = "name"
    WORD = "word"  # an everyday word; a name where it is capitalised inside a sentence
    TOPIC = "topic"  # what rooms talk about, capitalised or not


@lru_cache(maxsize=100_000)
def sense(name: str) -> Sense:
    """What a name mostly is; one with signs or digits is always a name."""
    folded = name.casefold()
    if not folded.isalpha() or folded in _GIVEN_NAMES:
        return Sense.NAME
    if folded in _TOPIC_WORDS:
        return Sense.TOPIC
    return Sense.WORD if _zipf(folded) >= _EVERYDAY else Sense.NAME


def is_everyday_word(name: str) -> bool:
    """Whether a name is so common a word that it mostly means something else."""
    return sense(name) is not Sense.NAME


@lru_cache(maxsize=100_000)
def is_known_word(name: str) -> bool:
    """Whether English has this word at all; asked of parts of names, and of what is left of a nick without its signs."""
    folded = name.casefold()
    return folded not in _GIVEN_NAMES and (folded in _TOPIC_WORDS or _zipf(folded) >= _KNOWN)


def _zipf(word: str) -> float:
    from wordfreq import zipf_frequency

    return float(zipf_frequency(word, "en", wordlist="small"))
