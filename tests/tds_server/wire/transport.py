"""TDS messages over a socket: packets, and TLS for the login or the whole session."""

import select
import socket
import struct
from typing import NamedTuple

from pysqlbridge.tds import TlsTunnel

from tests.tds_server.errors import CancelledError

HEADER = struct.Struct(">BBHHBB")
END_OF_MESSAGE = 0x01
RESET = 0x08 | 0x10
BATCH, CALL, ANSWER, ATTENTION, TRANSACTION, LOGIN, PRELOGIN = 0x01, 0x03, 0x04, 0x06, 0x0E, 0x10, 0x12


class Message(NamedTuple):
    type: int
    payload: bytes
    reset: bool  # reset the session first, because the connection comes from a pool


class Transport:
    """Reads and writes whole messages. ``tunnel``, once set, encrypts all messages."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.packet_size = 4096
        self._tunnel: TlsTunnel | None = None
        self._received = bytearray()

    def enter(self, tunnel: TlsTunnel) -> None:
        """Encrypt from now on. Data received after the handshake is encrypted already."""
        self._tunnel = tunnel
        self._received = bytearray(tunnel.unwrap(bytes(self._received)))

    def leave_tunnel(self) -> None:
        """Stop encrypting."""
        self._tunnel = None

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the client closed the connection")
        self._received += self._tunnel.unwrap(data) if self._tunnel else data

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            self._receive()
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def read(self) -> Message:
        """Wait for the next message. Raises ConnectionError if the client disconnects."""
        chunks = []
        while True:
            kind, status, length, *_ = HEADER.unpack(self._take(HEADER.size))
            chunks.append(self._take(length - HEADER.size))
            if status & END_OF_MESSAGE:
                return Message(kind, b"".join(chunks), bool(status & RESET))

    def interrupted(self) -> bool:
        """Whether the client has sent an attention while it waits for an answer. Raises ConnectionError if it
        disconnected.
        """
        while select.select([self.socket], [], [], 0)[0]:
            self._receive()
        return len(self._received) > 0 and self._received[0] == ATTENTION

    def write(self, kind: int, payload: bytes, whole: bool = True) -> None:
        """Send one message, or a part of one that is not ``whole``, in as many packets as necessary.

        Raises:
            CancelledError: the client has cancelled the request before this part, which is not the last one.
        """
        if not whole and self.interrupted():
            raise CancelledError
        room = self.packet_size - HEADER.size
        packets = []
        for number, start in enumerate(range(0, max(len(payload), 1), room), start=1):
            chunk = payload[start : start + room]
            status = END_OF_MESSAGE if whole and start + room >= len(payload) else 0
            packets.append(HEADER.pack(kind, status, HEADER.size + len(chunk), 0, number % 256, 0) + chunk)
        data = b"".join(packets)
        self.socket.sendall(self._tunnel.wrap(data) if self._tunnel else data)

    def close(self) -> None:
        """Reset the connection, without sending pending data."""
        self.socket.close()
