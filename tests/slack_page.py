"""`python -m tests.slack_page GOT.jsonl PAGE.html`: what a channel looks like after the messages that a receiver got.

`python -m tests.slack_receiver PORT GOT.jsonl` is one to point a connection `slack` at. Drawn is what Slack draws of a
message's `text`: its emoji, links, bold and line breaks; anything else it would show letter by letter.
"""

import json
import re
import sys
from datetime import UTC, datetime
from html import escape, unescape
from pathlib import Path

EMOJI = {
    "red_circle": "🔴",
    "large_orange_circle": "🟠",
    "large_green_circle": "🟢",
    "hourglass": "⌛",
    "raised_hand": "✋",
    "no_entry": "⛔",
    "leftwards_arrow_with_hook": "↩️",
}
"""Those of `jobs.orchestration.alert` and of a stack's services; any other name stays as it is."""
LINK = re.compile(r"<(https?://[^|>]+)\|([^>]+)>")
STYLE = """
body { margin: 0; padding: 20px 24px; width: 852px; background: #fff; color: #1d1c1d; font: 15px/1.46 Lato, sans-serif }
h1 { margin: 0 0 12px; padding-bottom: 12px; border-bottom: 1px solid #ddd; font-size: 18px }
article { display: flex; gap: 10px; padding: 7px 0 }
i { flex: none; width: 36px; height: 36px; border-radius: 8px; background: #1f4e79; color: #fff;
    font: bold 20px/36px serif; text-align: center }
p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }
small { color: #616061; font-size: 12px }
b.app { padding: 1px 3px; border-radius: 2px; background: #ddd; font-size: 10px }
a { color: #1264a3; text-decoration: none }
"""


def shown(text: str) -> str:
    """A message's markup as HTML."""
    parts, at = [], 0
    for link in LINK.finditer(text):
        parts += [_words(text[at : link.start()]), f'<a href="{escape(unescape(link[1]))}">{_words(link[2])}</a>']
        at = link.end()
    return "".join([*parts, _words(text[at:])])


def page(got: list[dict[str, object]], channel: str = "recommendations-on-call") -> str:
    """All of them, in the order in which they came."""
    messages = [
        f"<article><i>T</i><div><b>Tidegate</b> <b class=app>APP</b> <small>{_clock(one['at'])}</small>"
        f"<p>{shown(str(one['text']))}</p></div></article>"
        for one in got
    ]
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h1># {channel}</h1>{''.join(messages)}"


def _words(text: str) -> str:
    """What is not a link: Slack's three escapes, emoji by name, bold."""
    named = re.sub(r":([a-z_]+):", lambda name: EMOJI.get(name[1], name[0]), escape(unescape(text)))
    return re.sub(r"(?<!\w)\*([^*\n]+)\*(?!\w)", r"<b>\1</b>", named)


def _clock(at: object) -> str:
    return f"{datetime.fromtimestamp(float(str(at)), UTC):%H:%M}"


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    Path(sys.argv[2]).write_text(page([json.loads(line) for line in lines]))
