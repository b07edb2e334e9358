"""A channel is one module and one entry, a key of ``Recipient``. No other code names it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import ValidationError

from jobfac import channels
from jobfac.channels import Message, deliver, shown, takes_output
from jobfac.definitions import Recipient
from jobfac.definitions.notify import Channel
from jobfac.definitions.values import Word
from jobfac.settings import Settings

MODULE = '''
"""A channel that appends to a file."""

TAKES_OUTPUT = True


def send(message, recipient, settings):
    with open(recipient.pager, "a") as file:
        file.write(message.event)


def shown(recipient):
    return recipient.pager
'''


class WithPager(Recipient):
    """The entry of the new channel."""

    pager: Annotated[Word | None, Channel()] = None


@pytest.fixture
def pager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module of the new channel, in the package's path."""
    (tmp_path / "pager.py").write_text(MODULE)
    monkeypatch.setattr(channels, "__path__", [*channels.__path__, str(tmp_path)])
    yield
    sys.modules.pop("jobfac.channels.pager", None)


@pytest.mark.usefixtures("pager")
def test_a_new_channel_needs_one_module_and_one_entry(tmp_path: Path) -> None:
    to = WithPager.model_validate({"pager": str(tmp_path / "out")})
    assert WithPager.channels() == (*Recipient.channels(), "pager")
    assert (to.channel, shown(to), takes_output(to), to.each()) == ("pager", str(tmp_path / "out"), True, [to])
    deliver(Message("1", "failed", {}), to, Settings())
    assert (tmp_path / "out").read_text() == "failed"
    with pytest.raises(ValidationError, match="exactly one of email, webhook, apprise and pager"):
        WithPager.model_validate({"pager": "x", "email": "a@b"})


@pytest.mark.parametrize("name", Recipient.channels())
def test_each_channel_module_implements_the_protocol(name: str) -> None:
    module = importlib.import_module(f"jobfac.channels.{name}")
    assert callable(module.send)
    assert callable(module.shown)
    assert isinstance(module.TAKES_OUTPUT, bool)


def test_no_other_file_names_a_channel_module() -> None:
    package = Path(channels.__file__).parents[1]
    named = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for name in Recipient.channels()
        if f"channels.{name}" in path.read_text(encoding="utf-8") and path.parent.name != "channels"
    ]
    assert named == []
