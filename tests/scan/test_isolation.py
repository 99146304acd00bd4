"""What a model, or the factory of one, can do to the process that scans it, and what it cannot do beyond it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_backdoor.checks import check_names
from pytest_backdoor.findings import Outcome
from pytest_backdoor.scanning import _session as sessions
from pytest_backdoor.scanning import scan, scan_file
from pytest_backdoor.scanning._processes import IMPORTS, ForkServer, can_fork, imports_of
from pytest_backdoor.scanning._session import ScanSession
from pytest_backdoor.settings import ScanSettings, make_settings

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these limits")
pytestmark = pytest.mark.timeout(120)
# The pipe that the child answers through: the first file that it opened.
ANSWERS = 3
WAYS = [pytest.param("forked", marks=linux), "spawned"]


@pytest.fixture(scope="module")
def shared_server():
    with ForkServer() as server:
        yield server


@pytest.fixture
def server_for(shared_server):
    return {"forked": shared_server, "spawned": None}.get


def settings_for(**values: object) -> ScanSettings:
    return make_settings({"checks": ["litmus"], **values}, where="test")


@pytest.fixture
def hostile(tmp_path, server_for):
    """A function that scans a state dict whose factory runs ``body``, in the process that ``how`` says."""
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "net.pt")

    def run(body: str, how: str = "spawned", **values: object):
        source = f"import ctypes, os, signal, socket, subprocess, sys, tempfile, time\ndef make():\n    {body}\n"
        (tmp_path / "hostile.py").write_text(source, encoding="utf-8")
        settings = settings_for(factory="hostile:make", input_shape=[3, 6, 5], **values)
        return scan_file(tmp_path / "net.pt", "net.pt", settings, tmp_path, server=server_for(how))

    return run


def told(body: str, hostile, how: str = "spawned", **values: object) -> str:
    """What the factory's expression ``body`` gives in the process of the scan."""
    summary = hostile(f"raise RuntimeError('<' + str({body}) + '>')", how, **values).findings[0].summary
    assert "RuntimeError: <" in summary, summary
    return summary.partition("RuntimeError: <")[2].rpartition(">")[0]


def onnx_file(path: Path, *, nodes: list, constants: dict[str, np.ndarray]) -> Path:
    """A classifier of (1, 8, 8) images that adds what ``nodes`` call ``extra`` to the scores."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])
    layers = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["plain"]),
        *nodes,
        helper.make_node("Add", ["plain", "extra"], ["scores"]),
    ]
    stored = {"w": np.ones((64, 4), np.float32), **constants}
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(layers, "hostile", [image], [scores], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def enormous(path: Path, count: int = 2**36) -> Path:
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["many"]),
        helper.make_node("ReduceMax", ["many"], ["extra"], keepdims=0),
    ]
    return onnx_file(path, nodes=nodes, constants={"size": np.array([count], np.int64)})


def large(path: Path) -> Path:
    return enormous(path, 2**30)


def endless(path: Path) -> Path:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go on"]),
            helper.make_node("Mul", ["value", "value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["plain"], ["start"], keepdims=0),
        helper.make_node("Loop", ["", "yes", "start"], ["extra"], body=body),
    ]
    return onnx_file(path, nodes=nodes, constants={"yes": np.array(True)})


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("write", "limits", "text"),
    [
        pytest.param(enormous, {}, "net.onnx", marks=linux, id="row_44_256_GiB"),
        # Unlike the one before, this would be had without the limit.
        pytest.param(large, {"memory": 2048}, "net.onnx", marks=linux, id="row_44_4_GiB"),
        pytest.param(endless, {"timeout": 4}, "took longer than 4 s", id="row_44_infinite_loop"),
    ],
)
def test_row_44_a_small_file_that_wants_everything(tmp_path, made, server_for, how, write, limits, text):
    path = write(tmp_path / "net.onnx")
    assert path.stat().st_size < 2000
    report = scan_file(path, "net.onnx", settings_for(**limits), tmp_path, server=server_for(how))
    assert [found.outcome for found in report.findings] == [Outcome.ERROR]
    assert text in report.findings[0].summary
    # The next model is scanned as ever.
    settings = settings_for(pack=str(made / "pack.npz"), fpr=0.01)
    after = scan_file(made / "clean.onnx", "clean.onnx", settings, tmp_path, server=server_for(how))
    assert after.verdict == "clean"
    assert after.isolation is not None
    assert after.isolation["process"] == how


@linux
@pytest.mark.parametrize("how", WAYS)
def test_the_network_is_denied(hostile, how):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        socket.create_connection(address).close()
        listening.accept()[0].close()  # as it would go without the filter
        listening.setblocking(False)
        report = hostile(f"socket.create_connection({address!r}).send(b'weights')", how)
        assert "PermissionError" in report.findings[0].summary
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert report.isolation is not None
    assert report.isolation["network"] == "denied by seccomp"
    assert report.isolation["not_set"] == []


@linux
@pytest.mark.parametrize(
    "attempt",
    [
        "socket.socket(socket.AF_INET6)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "subprocess.run([sys.executable, '-c', 'import socket; socket.socket()'], check=True)",
        "if ctypes.CDLL(None, use_errno=True).syscall(425, 1, 0) == -1: raise PermissionError(ctypes.get_errno(), '')",
        "if ctypes.CDLL(None).syscall(438, os.pidfd_open(os.getppid()), 0, 0) == -1: raise PermissionError",
    ],
)
def test_ways_around_the_denial(hostile, attempt):
    summary = hostile(f"{attempt}\n    raise LookupError('it worked')", "forked").findings[0].summary
    assert "LookupError" not in summary
    assert "PermissionError" in summary or "CalledProcessError" in summary


@linux
def test_what_needs_no_network_works(hostile):
    body = (
        "__import__('torch').set_num_threads(2) or (__import__('torch').ones(512, 512) @ "
        "__import__('torch').ones(512, 512)).sum().item(), (lambda pair: pair[0].send(b'x'))(socket.socketpair()), "
        "tempfile.NamedTemporaryFile().write(b'abc'), subprocess.check_output(['echo', 'x']), os.cpu_count() > 0"
    )
    assert told(f"({body})", hostile, "forked") == "(134217728.0, 1, 3, b'x\\n', True)"


@pytest.mark.parametrize("how", WAYS)
def test_the_working_directory_is_private_empty_and_removed(hostile, how, tmp_path):
    body = "(os.getcwd(), os.listdir(), tempfile.gettempdir())"
    place, names, temporary = eval(told(body, hostile, how))
    assert names == []
    assert place == temporary
    assert Path(place) not in (Path.cwd(), tmp_path)
    assert not Path(place).exists()
    # Also where the process did not live to clean up.
    note = tmp_path / "note"
    report = hostile(f"open('left', 'w'); open({str(note)!r}, 'w').write(os.getcwd()); os._exit(3)", how)
    assert "ended with status 3" in report.findings[0].summary
    assert note.read_text().startswith(os.path.realpath(tempfile.gettempdir()))
    assert not Path(note.read_text()).exists()


@pytest.mark.parametrize("how", WAYS)
def test_settings_are_relative_to_the_root_all_the_same(tmp_path, made, server_for, how, monkeypatch):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    (root / "data").mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for name in ("pack.npz", "clean.onnx"):
        (root / name).write_bytes((made / name).read_bytes())
    images = np.zeros((40, 8, 8, 1), np.uint8)
    for number in range(40):
        row, column = divmod(number % 4, 2)
        images[number, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
    np.savez(root / "data/clean.npz", x=images, y=np.arange(40) % 4)
    (root / "models.lock").write_text('lock-version = "1"\n', encoding="utf-8")
    settings = settings_for(
        checks=["provenance", "litmus"], pack="pack.npz", data="data/clean.npz", lock="models.lock", fpr=0.01
    )
    provenance, litmus = scan_file(root / "clean.onnx", "clean.onnx", settings, root, server=server_for(how)).findings
    assert "models.lock" in provenance.summary
    assert provenance.outcome is not Outcome.ERROR
    assert litmus.outcome is Outcome.PASSED


@pytest.mark.parametrize("how", WAYS)
def test_a_factory_is_imported_from_the_root(hostile, how, tmp_path):
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n", encoding="utf-8")
    assert told("__import__('beside').NAME", hostile, how) == "beside"


@linux
def test_a_relative_python_path_survives_the_change_of_directory(hostile, tmp_path, monkeypatch):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/relative.py").write_text("NAME = 'relative'\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "more", prepend=os.pathsep)
    assert told("__import__('relative').NAME", hostile, "spawned") == "relative"


@linux
def test_the_environment_is_that_of_now(hostile, monkeypatch):
    told("1", hostile, "forked")  # the server runs
    monkeypatch.setenv("SET_LATER", "yes")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    asked = "(os.environ.get('SET_LATER'), os.environ.get('PYTEST_CURRENT_TEST'))"
    assert told(asked, hostile, "forked") == "('yes', None)"


DEATHS = {
    "kill": ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9 (SIGKILL, as the system does when its memory"),
    "crash": ("ctypes.string_at(0)", "killed by signal 11 (SIGSEGV, a crash of the library"),
    "abort": ("os.abort()", "killed by signal 6 (SIGABRT, a crash of the library"),
    "exit": ("os._exit(0)", "ended with status 0"),
}


@linux
@pytest.mark.parametrize(
    ("how", "death"), [*(("forked", death) for death in DEATHS), ("spawned", "kill"), ("spawned", "exit")]
)
def test_a_killed_child_costs_one_check(hostile, how, death, tmp_path, server_for):
    body, text = DEATHS[death]
    first = hostile(body, how, checks=["provenance", "litmus"])
    assert text in first.findings[1].summary
    assert "Treat the file as hostile" in first.findings[1].summary
    assert len(first.sha256 or "") == 64
    settings = settings_for(factory="hostile:make", input_shape=[3, 6, 5])
    with ScanSession(tmp_path / "net.pt", "net.pt", settings, tmp_path, server=server_for(how)) as session:
        assert session.run("litmus").outcome is Outcome.ERROR
        assert session.run("provenance").outcome is not Outcome.ERROR
        assert len(session.describe()["sha256"]) == 64


@linux
@pytest.mark.parametrize("how", WAYS)
def test_too_much_memory_is_an_error(hostile, how):
    report = hostile("bytearray(6 * 2**30)", how, memory=4096)
    assert report.findings[0].outcome is Outcome.ERROR
    assert "MB" in report.findings[0].summary or "MemoryError" in report.findings[0].summary
    assert report.isolation is not None
    assert report.isolation["memory_mb"] == 4096


@linux
@pytest.mark.parametrize("how", WAYS)
def test_too_much_processor_time_is_an_error(hostile, how, monkeypatch):
    monkeypatch.setattr(sessions, "processor_seconds", lambda wall: 3)
    report = hostile("exec('while True: pass')", how, checks=["litmus", "margin"])
    for found in report.findings:
        assert found.outcome is Outcome.ERROR
        assert "used up the processor time that --backdoor-timeout gives" in found.summary
    assert report.isolation is not None
    assert report.isolation["cpu_seconds"] == 3


@linux
def test_processor_time_follows_from_the_time_limit(made, tmp_path):
    unlimited = scan(made / "clean.onnx", checks=["provenance"], timeout=0, memory=0, root=tmp_path).models[0]
    assert unlimited.isolation is not None
    assert (unlimited.isolation["cpu_seconds"], unlimited.isolation["memory_mb"]) == (None, None)
    assert unlimited.isolation["not_set"] == []
    limited = scan(made / "clean.onnx", checks=["provenance"], timeout=50, root=tmp_path).models[0]
    assert limited.isolation is not None
    assert limited.isolation["cpu_seconds"] == 50 * len(os.sched_getaffinity(0))


@linux
@pytest.mark.parametrize("how", WAYS)
def test_a_new_child_finds_the_same(made, tmp_path, server_for, how):
    settings = settings_for(pack=str(made / "pack.npz"))

    def session():
        return ScanSession(made / "clean.onnx", "clean.onnx", settings, tmp_path, server=server_for(how))

    with session() as undisturbed:
        expected = undisturbed.run("litmus")
    with session() as disturbed:
        disturbed.run("provenance")
        disturbed.close()
        assert replace(disturbed.run("litmus"), seconds=0.0) == replace(expected, seconds=0.0)


@linux
def test_what_one_model_changes_the_next_does_not_see(hostile):
    told("setattr(__import__('torch'), 'changed', 'yes') or __import__('torch').changed", hostile, "forked")
    assert told("getattr(__import__('torch'), 'changed', 'no')", hostile, "forked") == "no"


@linux
def test_a_model_that_kills_the_server_does_not_end_the_run(tmp_path, hostile, shared_server, server_for):
    # A user's processes may signal each other; no limit of ours prevents it.
    report = hostile("os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)", "forked")
    assert report.findings[0].outcome is Outcome.ERROR
    assert "is gone" in report.findings[0].summary
    assert told("'alive'", hostile, "forked") == "alive"


@linux
@pytest.mark.parametrize("checks", [["provenance"], ["litmus"], ["margin"], ["reversal"], ["training-data"], None])
def test_the_server_has_one_thread_and_forks(made, tmp_path, checks):
    if set(checks or ()) - set(check_names()):
        pytest.skip("the package was installed before this check: install it again")
    settings = make_settings({"checks": checks, "timeout": 60}, where="test")
    with ForkServer() as server, ScanSession(made / "clean.onnx", "m", settings, tmp_path, server=server) as session:
        assert session.describe()["isolation"]["process"] == "forked"


@linux
def test_a_server_that_has_threads_spawns(made, tmp_path, monkeypatch):
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    (tmp_path / "starts_a_thread.py").write_text(source, encoding="utf-8")
    monkeypatch.setitem(IMPORTS, "litmus", ("starts_a_thread",))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    settings = settings_for(pack=str(made / "pack.npz"), fpr=0.01)
    with ForkServer() as server:
        report = scan_file(made / "clean.onnx", "m", settings, tmp_path, server=server)
        assert report.isolation is not None
        assert report.isolation["process"] == "spawned"
        assert report.verdict == "clean"


def test_only_what_is_needed_is_imported_before():
    assert not {"onnxruntime", "torch"} & set(imports_of(["provenance"], ScanSettings()))
    assert "torch" not in imports_of(["provenance", "litmus", "of a third party"], ScanSettings())
    assert "torch" in imports_of(["litmus"], ScanSettings(factory="a:b"))
    assert "torch" in imports_of(["margin"], ScanSettings())
    assert "torch" not in imports_of(["training-data"], ScanSettings())
    assert not any("onnxruntime" in modules for modules in IMPORTS.values())


def test_an_accelerator_is_not_used_after_a_fork():
    assert can_fork(ScanSettings()) == (sys.platform == "linux")
    assert not can_fork(ScanSettings(device="cuda:1"))


SCRIPT = """
import sys
from pathlib import Path
from pytest_backdoor.scanning import scan_file
from pytest_backdoor.scanning._processes import ForkServer
from pytest_backdoor.settings import make_settings

root = Path(sys.argv[1])
settings = make_settings(
    dict(checks=["litmus"], factory="hostile:make", input_shape=[3, 6, 5], timeout=0), where="test"
)
scan_file(root / "net.pt", "net.pt", settings, root, server=ForkServer() if sys.argv[2] == "forked" else None)
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition) -> None:
    while not condition():  # the test's own time limit ends it
        time.sleep(0.02)


@linux
@pytest.mark.parametrize("how", WAYS)
def test_nothing_is_left_of_a_test_process_that_is_killed(tmp_path, how):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "net.pt")
    note = tmp_path / "note"
    source = (
        f"import os, time\ndef make():\n    os.fork()\n    open({str(note)!r}, 'a').write("
        "f'{os.getpid()} {os.getppid()} {os.getcwd()}\\n')\n    time.sleep(600)\n"
    )
    (tmp_path / "hostile.py").write_text(source, encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), how])
    wait_until(lambda: note.exists() and note.read_text().count("\n") == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lines = [line.split() for line in note.read_text().splitlines()]
    pids = {int(pid) for own, parent, _ in lines for pid in (own, parent)}
    if how == "forked":
        wait_until(lambda: not any(map(is_running, pids)))
        wait_until(lambda: not Path(lines[0][2]).exists())
    else:
        # The child notices by itself; what it started is its own.
        (started,) = {int(own) for own, parent, _ in lines if int(parent) in {int(line[0]) for line in lines}}
        wait_until(lambda: not any(map(is_running, pids - {started})))
        os.kill(started, signal.SIGKILL)


@linux
def test_what_a_model_started_ends_with_its_scan(hostile, tmp_path):
    note = tmp_path / "note"
    body = f"p = subprocess.Popen(['sleep', '600']); open({str(note)!r}, 'w').write(str(p.pid)); raise OSError"
    for how in ("forked", "spawned"):
        hostile(body, how)
        wait_until(lambda: not is_running(int(note.read_text())))


@linux
def test_closing_the_server_ends_its_children(tmp_path, made):
    server = ForkServer()
    session = ScanSession(made / "clean.onnx", "m", settings_for(), tmp_path, server=server)
    session.run("provenance")
    server.close()
    assert session.run("provenance").outcome is Outcome.ERROR
    session.close()
    server.close()


def test_a_scan_outside_of_pytest(made, tmp_path):
    report = scan(made / "clean.onnx", checks=["litmus"], pack=str(made / "pack.npz"), root=tmp_path)
    assert report.verdict == "clean"
    assert report.to_json()["models"][0]["isolation"]["process"] == "spawned"
    assert threading.active_count() < 20


def test_a_live_network_is_scanned_here(made):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    report = scan(network, checks=["provenance"], input_shape=[1, 8, 8], root=made)
    isolation = report.models[0].isolation
    assert isolation is not None
    assert (isolation["process"], isolation["working_directory"]) == ("none", "shared")
    socket.socket().close()


# What a process that was taken over may write in place of an answer.
NO_ANSWERS = {
    "another_kind": b"[1]\n",
    "nested_deeply": b"[" * 100_000 + b"\n",
    "of_another_check": b'{"check": "provenance", "outcome": "passed", "summary": "x", "behavioural": true}\n',
    "not_a_number": b'{"check": "litmus", "outcome": "passed", "summary": "x", "behavioural": true, "score": NaN}\n',
    "no_text": b"\xff\xfe\n",
    "never_asked_for": b"{}\n" * 200_000,
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("written", NO_ANSWERS.values(), ids=NO_ANSWERS)
@linux
def test_what_is_no_answer_is_an_error(hostile, tmp_path, written, how):
    (tmp_path / "written").write_bytes(written)
    report = hostile(f"os.write({ANSWERS}, open({str(tmp_path / 'written')!r}, 'rb').read())", how)
    (finding,) = report.findings
    assert finding.check == "litmus"
    assert finding.outcome is Outcome.ERROR


@linux
def test_an_answer_without_an_end_is_not_kept(hostile, monkeypatch):
    monkeypatch.setattr(sessions, "_LONGEST_ANSWER", 1 << 16)
    read = []
    real = sessions._read_lines
    monkeypatch.setattr(sessions, "_read_lines", lambda stream, answers: (read.append(answers), real(stream, answers)))
    body = f"[os.write({ANSWERS}, bytes(1 << 20)) for _ in range(64)]"
    assert hostile(body).findings[0].outcome is Outcome.ERROR
    left = [read[0].get() for _ in range(read[0].qsize())]
    assert sum(map(len, left)) <= 2 << 16


@linux
def test_what_was_written_unasked_does_not_answer_the_next_question(tmp_path, server_for, monkeypatch):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "net.pt")
    forged = '{"check": "provenance", "outcome": "passed", "summary": "x", "behavioural": false}'
    (tmp_path / "forging.py").write_text(
        f"import os, threading\ndef make():\n    threading.Timer(0.3, os.write, ({ANSWERS}, b'{forged}\\n')).start()\n"
    )
    settings = settings_for(factory="forging:make", input_shape=[3, 6, 5])
    with ScanSession(tmp_path / "net.pt", "net.pt", settings, tmp_path) as session:
        session.run("litmus")
        time.sleep(1)
        assert session.run("provenance").outcome is not Outcome.PASSED


@linux
@pytest.mark.parametrize("how", WAYS)
def test_nothing_leaves_the_group_that_is_killed(hostile, tmp_path, how):
    body = "os.fork() or (os.setsid(), open({!r}, 'w'))".format(str(tmp_path / "free"))
    hostile(body, how)
    time.sleep(0.3)
    assert not (tmp_path / "free").exists()
