"""A check that takes long is told on a terminal while it runs, and nowhere else."""

from __future__ import annotations

import io
import os
import queue
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pytest_backdoor.plugin._waiting import _Status
from pytest_backdoor.scanning._session import _next_line, _Running

SHOWN = re.compile(r"\x1b7 odd (\d+) s\x1b\[K(?:\x1b8 odd \d+ s\x1b\[K)*\x1b8\x1b\[K")


@pytest.fixture
def on_a_terminal(project):
    """A function that runs pytest on a terminal of its own and gives all that was written there."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

    def run(*arguments):
        ours, theirs = pty.openpty()
        unwanted = {"NO_COLOR", "CI", "FORCE_COLOR", "PY_COLORS", "PYTEST_ADDOPTS"}
        environment = {name: value for name, value in os.environ.items() if name not in unwanted} | {"TERM": "xterm"}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        with subprocess.Popen(
            command, cwd=project.path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            written = b""
            while True:
                try:
                    part = os.read(ours, 4096)
                except OSError:  # Linux: nobody is at the other end any more
                    break
                if not part:
                    break
                written += part
        os.close(ours)
        assert process.returncode in (0, 1), written.decode()
        return written.decode()

    return run


def test_a_check_that_takes_long(project, install_checks, on_a_terminal):
    install_checks(odd="__import__('time').sleep(3.5)")
    project.add()
    text = on_a_terminal("--backdoor-scan", "model.onnx", "--backdoor-checks=odd")
    shown = SHOWN.search(text)
    assert shown, text
    assert 2 <= int(shown[1]) <= 30
    assert "odd passed" in text
    assert not SHOWN.search(text, shown.end())


def test_a_marked_test(project, install_checks, on_a_terminal):
    install_checks(odd="__import__('time').sleep(3.5)")
    project.add()
    project.write(
        "test_it.py",
        "import pytest\n@pytest.mark.backdoor_scan('model.onnx', checks='odd')\ndef test_it(): print('printed')\n",
    )
    text = on_a_terminal("test_it.py")
    assert SHOWN.search(text), text
    assert "printed" not in text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_is_shown_of_a_quick_check(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    status = _Status(SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda name: None)))
    status.show("odd", 1.0)
    status.remove()
    assert terminal.getvalue() == ""
    for seconds in (2.0, 3.0):
        status.show("odd", seconds)
    status.remove()
    assert SHOWN.fullmatch(terminal.getvalue())


def test_the_time_limit_holds_whoever_waits():
    answers, told = queue.SimpleQueue(), []
    child = _Running(None, answers, "")
    with pytest.raises(queue.Empty):
        _next_line(child, 0.01, lambda: told.append(1))
    assert told == []
    with pytest.raises(queue.Empty):
        _next_line(child, 1.2, lambda: told.append(1))
    assert told == [1]
    answers.put("line")
    assert _next_line(child, None, lambda: told.append(1)) == "line"


def test_what_is_no_terminal(project, install_checks):
    install_checks(odd="__import__('time').sleep(2.5)")
    project.add()
    result = project.scan_apart("model.onnx", "--backdoor-checks=odd", "--color=yes")
    assert "\x1b7" not in result.stdout.str()
    result.assert_outcomes(passed=1)
