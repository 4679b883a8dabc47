"""The listening socket: claimed early, and closed without resetting a connection that the kernel has accepted.

A listening socket that is simply closed takes its queue of established but unread connections with it: their
clients, whose connect() succeeded, get a reset. So the kernel is first told to drop connection attempts; the client
repeats a dropped attempt after a second, and is then refused or, better, sent elsewhere.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Iterable

from lightship_runtime.config import Config
from lightship_runtime.errors import StartError

BACKLOG = 2048  # connections that the kernel may hold for us
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# A classic BPF program (linux/filter.h) on the TCP header: drop a packet with SYN but without ACK, pass all others,
# so that handshakes under way are completed. Each instruction is (code, jump if true, jump if false, operand).
_DROP_NEW = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


def bind(config: Config) -> socket.socket:
    """Claim the address without listening yet: clients are refused, but a taken port shows before a long load.

    Raises StartError.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With the protocol named: asyncio sets TCP_NODELAY only on sockets that say they are TCP, and without it every
    # answer on a kept connection waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"Could not bind to {config.host}, port {config.port}: {error.strerror or error}.",
            hint="Set LIGHTSHIP_PORT to another port.",
        ) from error
    return listener


def drop_new_connections(listener: socket.socket) -> None:
    """From now on let the kernel drop attempts to connect; what is established or in its handshake goes on."""
    import ctypes

    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in _DROP_NEW))
    attached = struct.pack("HP", len(_DROP_NEW), ctypes.addressof(program))  # struct sock_fprog, native alignment
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
    except OSError:  # another kernel than Linux, or an imitation of it: at least keep the queue short
        with contextlib.suppress(OSError):
            listener.listen(0)


def has_waiting(listeners: Iterable[socket.socket]) -> bool:
    """Whether the kernel holds connections that nobody has accepted yet."""
    poll = select.poll()
    for listener in listeners:
        poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
