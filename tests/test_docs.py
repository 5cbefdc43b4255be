"""docs/tokenizers.md says what really happens: its commands and snippets are run and compared."""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from kbert import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tokenizers.md"
BLOCK = re.compile(r"^```(console|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def answer(command, capsys) -> str:
    """What a command prints; `kbert` runs in this process."""
    if not command.startswith("kbert "):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout
    capsys.readouterr()
    with mock.patch.object(sys, "argv", shlex.split(command)):
        cli.main()
    return capsys.readouterr().out


def snippet(source, names) -> str:
    """What Python says to a line or several."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(compile(source, PAGE.name, "single"), names)
    return told.getvalue()


def page_as_it_is(page, capsys) -> str:
    """The page with what its commands and snippets really say."""
    names = {}

    def of_block(match):
        language, text = match.groups()
        if language == "console":
            said = COMMAND.sub(lambda m: f"$ {m[1]}\n{answer(m[1], capsys)}", text)
        else:
            said = ""
            for example in doctest.DocTestParser().get_examples(text):
                first, *rest = example.source.splitlines()
                said += f">>> {first}\n" + "".join(f"... {line}\n" for line in rest)
                said += snippet(example.source, names)
        return f"```{language}\n{said}```"

    return BLOCK.sub(of_block, page)


@pytest.mark.skipif(os.name != "posix", reason="the page's commands are bash's")
def test_the_page_on_tokenizers_says_what_happens(data_dir, tmp_path, monkeypatch, capsys):
    for name in ("bert-base-uncased", "bertimbau-cased"):
        (tmp_path / name).symlink_to(data_dir / "vocab" / name)
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text("utf-8")
    assert page_as_it_is(page, capsys) == page
