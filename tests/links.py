"""Broken links inside a folder of HTML pages: ``python -m tests.links FOLDER`` prints them and
exits with 1 where there are any."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids of a page and what it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


def broken(folder: Path) -> list[str]:
    """``PAGE: LINK`` for every link to a file that is not there, or to an id that its page lacks;
    addresses on the web are left alone."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            missing = (
                known is not None and parts.fragment and unquote(parts.fragment) not in known.ids
            )
            if missing or not target.exists():
                found.append(f"{path.relative_to(folder.resolve())}: {link}")
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    pages, found = len(list(folder.rglob("*.html"))), broken(folder)
    print(*found, f"{pages} pages, {len(found)} broken links", sep="\n")
    sys.exit(bool(found) or not pages)


if __name__ == "__main__":
    main()
