"""``python -m tests.browser PAGE PICTURE``: a page opened in Chromium, without a screen.

Takes `PyQt6-WebEngine` (the extra 'browser'). Prints one line of JSON: what the page holds once it
is loaded, what it said on its console and what it asked for beyond itself; saves how it looks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--no-sandbox --disable-gpu")

from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineCore import (
    QWebEnginePage,
    QWebEngineSettings,
    QWebEngineUrlRequestInterceptor,
)
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

HOLDS = """JSON.stringify({
  title: document.title,
  headings: [...document.querySelectorAll('h2')].map(h => h.innerText),
  rows: [...document.querySelectorAll('tr')].map(r => [...r.children].map(c => c.innerText)),
  images: [...document.images].map(i => [i.alt, i.complete, i.naturalWidth, i.clientWidth]),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  height: document.documentElement.scrollHeight
})"""


class Requests(QWebEngineUrlRequestInterceptor):
    """What a page asks for that is neither a file nor in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def interceptRequest(self, info) -> None:  # noqa: N802 - Qt's name
        if info.requestUrl().scheme() not in ("file", "data"):
            self.outside.append(info.requestUrl().toString())


class Page(QWebEnginePage):
    """Keeps what is said on the console."""

    def __init__(self, parent) -> None:
        super().__init__(parent)
        self.said: list[str] = []

    def javaScriptConsoleMessage(self, level, message, line, source) -> None:  # noqa: N802
        self.said.append(message)


def main(page: str, picture: str, width: int = 1000, seconds: int = 60) -> None:
    app = QApplication(sys.argv[:1])
    view, requests = QWebEngineView(), Requests()
    content = Page(view)
    content.setUrlRequestInterceptor(requests)
    remote = QWebEngineSettings.WebAttribute.LocalContentCanAccessRemoteUrls
    content.settings().setAttribute(remote, True)  # else such requests are dropped unseen
    view.setPage(content)
    view.resize(width, 800)

    def tell(found: str) -> None:
        holds = json.loads(found)
        view.resize(width, holds["height"])

        def leave() -> None:
            view.grab().save(picture)
            print(json.dumps({**holds, "console": content.said, "outside": requests.outside}))
            app.quit()

        QTimer.singleShot(1000, leave)  # for the painter

    content.loadFinished.connect(lambda loaded: content.runJavaScript(HOLDS, tell))
    QTimer.singleShot(1000 * seconds, lambda: app.exit(1))
    content.load(QUrl.fromLocalFile(str(Path(page).resolve())))
    view.show()
    status = app.exec()
    sys.stdout.flush()
    os._exit(status)  # Qt's own order of taking down is not Python's


if __name__ == "__main__":
    main(*sys.argv[1:3])
