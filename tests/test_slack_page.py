"""The picture of Slack draws what is sent: every emoji by its name, links where they lead, words as words."""

import re

from jobs.config import ROOT
from tests.slack_page import EMOJI, page, shown


def test_every_emoji_that_is_sent_is_drawn() -> None:
    sent = {
        name
        for folder in ("jobs/orchestration", "infra/stack", "dags")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"[\"' ]:([a-z]+(?:_[a-z]+)+):[\"' ]", path.read_text())
    }
    assert len(sent) > 3
    assert sent <= set(EMOJI)


def test_a_link_leads_where_it_says_and_words_are_words() -> None:
    said = shown(":red_circle: *a* &lt;b&gt; <http://host/run?a=1&amp;b=2|log>")
    assert said == '🔴 <b>a</b> &lt;b&gt; <a href="http://host/run?a=1&amp;b=2">log</a>'
    assert "10:00" in page([{"at": 36_000, "text": "x"}])
