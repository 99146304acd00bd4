"""The seccomp program, interpreted for processors that the tests do not run on, and the namespace that replaces it."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest

from pytest_backdoor.scanning._network import MACHINES, network_filter

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
X86, ARM, I386 = 0xC000003E, 0xC00000B7, 0x40000003
UNIX, INET, INET6 = 1, 2, 10


def answer(program: bytes, *, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do: an interpreter of the instructions that the filter uses."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    accumulator, position = 0, 0
    while True:
        code, if_true, if_false, constant = struct.unpack_from("=HBBI", program, 8 * position)
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x15:
            position += if_true if accumulator == constant else if_false
        elif code == 0x35:
            position += if_true if accumulator >= constant else if_false
        else:
            assert code == 0x06
            return constant


NUMBERS = {
    "x86_64": {"socket": 41, "connect": 42, "socketpair": 53, "read": 0, "ptrace": 101, "execve": 59, "clone3": 435},
    "aarch64": {"socket": 198, "connect": 203, "socketpair": 199, "read": 63, "ptrace": 117, "execve": 221},
}
CASES = [
    ("socket", (INET,), False, REFUSE),
    ("socket", (INET6,), False, REFUSE),
    ("socket", (UNIX,), False, REFUSE),
    ("socket", (UNIX,), True, ALLOW),
    ("socket", (INET,), True, REFUSE),
    ("socket", (INET | 1 << 32,), True, REFUSE),
    ("socket", (16,), True, REFUSE),
    ("connect", (3,), False, REFUSE),
    ("connect", (3,), True, ALLOW),
    ("socketpair", (UNIX, 1), False, ALLOW),
    ("socketpair", (UNIX, 1 | 0o2000000), False, ALLOW),
    ("socketpair", (UNIX, 5), False, ALLOW),
    ("socketpair", (UNIX, 2), False, REFUSE),
    ("ptrace", (), False, REFUSE),
    ("ptrace", (), True, REFUSE),
    ("read", (0,), False, ALLOW),
    ("execve", (), False, ALLOW),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("call", "arguments", "local", "expected"), CASES)
def test_system_calls(machine, call, arguments, local, expected):
    program = network_filter(machine, local_sockets=local)
    architecture = {"x86_64": X86, "aarch64": ARM}[machine]
    number = NUMBERS[machine][call]
    assert answer(program, architecture=architecture, number=number, arguments=arguments) == expected
    assert answer(program, architecture=I386, number=number, arguments=arguments) == KILL
    for ring in (425, 426, 427, 438):
        assert answer(program, architecture=architecture, number=ring) == REFUSE


def test_the_second_set_of_numbers_of_x86_is_refused():
    program = network_filter("x86_64", local_sockets=True)
    for number in (0, 41, 42):
        assert answer(program, architecture=X86, number=number | 0x40000000) == REFUSE


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has namespaces")
def test_a_namespace_where_there_is_no_filter():
    code = """
import os, socket
from pytest_backdoor.scanning import _network
_network._deny_by_filter = lambda **options: False
user = os.getuid()
listening = socket.create_server(("127.0.0.1", 0))
print(_network.deny_network())
try:
    socket.create_connection(listening.getsockname())
except OSError as error:
    print("refused", os.getuid() == user)
"""
    lines = run(code).splitlines()
    if lines[0] == "not denied":
        pytest.skip("this system lets no user make a namespace")
    assert lines == ["denied by namespace", "refused True"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has filters")
def test_local_sockets_may_stay():
    code = """
import socket
from pytest_backdoor.scanning._network import deny_network
print(deny_network(local_sockets=True))
socket.socket(socket.AF_UNIX).close()
try:
    socket.socket()
except PermissionError:
    print("refused")
"""
    assert run(code).splitlines() == ["denied by seccomp", "refused"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has either")
def test_where_nothing_works_it_is_said():
    code = """
import tempfile
from pytest_backdoor.scanning import _limits, _network
_network._deny_by_filter = lambda **options: False
_network._deny_by_namespace = lambda: False
with tempfile.TemporaryDirectory() as folder:
    limits = _limits.Limits(memory_mb=4096, cpu_seconds=9, directory=folder)
    isolation = _limits.limit_this_process(limits, "spawned")
    print(isolation.network, isolation.not_set, isolation.memory_mb, isolation.cpu_seconds)
"""
    assert run(code) == "not denied ('network',) 4096 9"
