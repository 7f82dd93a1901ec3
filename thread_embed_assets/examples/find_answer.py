"""Find what was answered when somebody asked this before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from thread_embed_assets.examples.chats import Reader, open_reader, options
from thread_embed_assets.search.searcher import Searcher, open_workspace

THREADS = 5
FEWEST_WORDS = 5  # "ok, done" answers everything, and so nothing


@dataclass(frozen=True)
class Answer:
    score: float
    channel: str
    author: str
    text: str


def find_answers(searcher: Searcher, reader: Reader, question: str, top: int = 3) -> list[Answer]:
    """The messages, of the threads that fit the question, that are most likely its reply, best first.

    The model was trained to bring a message near to its replies, so the cosine ranks them; the thread says what it is about.
    """
    found = [
        Answer(hit.score, hit.channel, line.author, line.text)
        for hit in searcher.search(question, top=THREADS).hits
        for line in hit.lines
        if len(line.text.split()) >= FEWEST_WORDS and not line.text.rstrip().endswith("?")
    ]
    if not found:
        return []
    near = reader.documents([answer.text for answer in found]) @ reader.query(question)
    ranked = [replace(answer, score=answer.score + float(score)) for answer, score in zip(found, near, strict=True)]
    return sorted(ranked, key=lambda answer: -answer.score)[:top]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("question", nargs="?", default="why is Sprout for iOS 148 MB?")
    given = parser.parse_args(arguments)
    with open_workspace(given.workspace) as searcher:
        for answer in find_answers(searcher, open_reader(), given.question):
            print(f"{answer.score:.2f}  {answer.channel}  {answer.author}: {answer.text}")


if __name__ == "__main__":
    main()
