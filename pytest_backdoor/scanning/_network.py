"""Taking the network away from the process that scans a model.

On Linux a seccomp filter refuses the system calls that open a socket (seccomp(2); the program is classic BPF, whose
encoding is that of ``linux/filter.h`` and ``linux/bpf_common.h``). Where the kernel takes no filter, the process moves
into a network namespace of its own, which has no device but a loopback that is down (network_namespaces(7)).

The filter also refuses what would undo it: io_uring, which makes system calls that no filter sees, and the calls by
which one process of a user reads, writes or takes open files from another that may still use the network. The file
system is not restricted.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from dataclasses import dataclass

BY_FILTER, BY_NAMESPACE, NOT_DENIED = "denied by seccomp", "denied by namespace", "not denied"

_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000

# Instructions, and the offsets of struct seccomp_data. All known machines are little-endian, so that an argument's
# lower half, which holds all of an int, comes first.
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # 1 is EPERM

_UNIX, _STREAM, _SEQUENCED = 1, 1, 5
_TYPE_OF_SOCKET = 0xF  # without SOCK_CLOEXEC and SOCK_NONBLOCK


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """Numbers of the kernel's interface on one kind of processor: its AUDIT_ARCH value and its system calls."""

    architecture: int
    socket: int
    socketpair: int
    connect: int
    others: tuple[int, ...]  # ptrace, process_vm_readv, process_vm_writev, setpgid, setsid
    x32: bool = False


# io_uring_setup, io_uring_enter, io_uring_register, pidfd_getfd: the same everywhere.
_EVERYWHERE = (425, 426, 427, 438)
_X32 = 0x40000000
MACHINES = {
    "x86_64": _Machine(
        architecture=0xC000003E, socket=41, socketpair=53, connect=42, others=(101, 310, 311, 109, 112), x32=True
    ),
    "aarch64": _Machine(
        architecture=0xC00000B7, socket=198, socketpair=199, connect=203, others=(117, 270, 271, 154, 157)
    ),
}


def deny_network(*, local_sockets: bool = False) -> str:
    """Take the network away from this process and its descendants, for good; one of this module's three texts.

    ``local_sockets``: Unix sockets may still be opened, as the drivers of some accelerators need. Call it while the
    process has one thread: threads that run already would keep the network.
    """
    if sys.platform != "linux":
        return NOT_DENIED
    if _deny_by_filter(local_sockets=local_sockets):
        return BY_FILTER
    return BY_NAMESPACE if _deny_by_namespace() else NOT_DENIED


def network_filter(machine: str, *, local_sockets: bool) -> bytes:
    """The BPF program for ``machine`` (``platform.machine()``), 8 bytes an instruction. Raises KeyError.

    System calls under another architecture's numbers, such as those of 32-bit programs, end the process.
    """
    known = MACHINES[machine]
    refused = [*_EVERYWHERE, *known.others]
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, known.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if known.x32:
        program += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    if not local_sockets:
        refused += [known.socket, known.connect]
    for number in refused:
        program += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    program += _only_unix_sockets(known) if local_sockets else _only_connected_pairs(known)
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _only_unix_sockets(machine: _Machine) -> list[tuple[int, int, int, int]]:
    return [
        (_IF_EQUAL, 0, 3, machine.socket),
        (_LOAD, 0, 0, _FIRST),
        (_IF_EQUAL, 1, 0, _UNIX),
        (_RETURN, 0, 0, _REFUSE),
    ]


def _only_connected_pairs(machine: _Machine) -> list[tuple[int, int, int, int]]:
    # A pair of datagram sockets could send to the address of any other Unix socket.
    return [
        (_IF_EQUAL, 0, 5, machine.socketpair),
        (_LOAD, 0, 0, _SECOND),
        (_AND, 0, 0, _TYPE_OF_SOCKET),
        (_IF_EQUAL, 2, 0, _STREAM),
        (_IF_EQUAL, 1, 0, _SEQUENCED),
        (_RETURN, 0, 0, _REFUSE),
    ]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _deny_by_filter(*, local_sockets: bool) -> bool:
    # A 32-bit Python on a 64-bit kernel makes the calls that the filter kills for.
    if platform.machine() not in MACHINES or struct.calcsize("P") != 8:
        return False
    instructions = network_filter(platform.machine(), local_sockets=local_sockets)
    program = _Program(len(instructions) // 8, instructions)
    return control_process(_SET_NO_NEW_PRIVILEGES, 1) and control_process(
        _SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program)
    )


def _deny_by_namespace() -> bool:
    user, group = os.getuid(), os.getgid()
    try:
        if ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK) != 0:
            return False
        # Without these the process would be nobody in its own eyes.
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(text)
    except AttributeError:
        return False
    except OSError:
        pass
    return True


def control_process(option: int, *arguments: int) -> bool:
    """``prctl(option, ...)``; whether it succeeded."""
    try:
        call = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    padded = [*arguments, 0, 0, 0, 0][:4]
    return bool(call(ctypes.c_int(option), *(ctypes.c_ulong(argument) for argument in padded)) == 0)
