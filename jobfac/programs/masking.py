"""Hiding secrets in a stream of bytes that arrives in pieces."""

from collections.abc import Sequence


class Mask:
    """The secrets of one execution. Empty ones are ignored."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = tuple(secret for secret in dict.fromkeys(secrets) if secret)
        self.reach = max(map(len, self._secrets), default=1) - 1
        """How many bytes before a position a secret may begin and still cover it."""

    def apply(self, data: bytes) -> bytes:
        """`data` with every occurrence of a secret, overlapping ones too, replaced by asterisks of the same length."""
        masked: bytearray | None = None
        for secret in self._secrets:
            at = data.find(secret)
            while at >= 0:
                if masked is None:
                    masked = bytearray(data)
                masked[at : at + len(secret)] = b"*" * len(secret)
                at = data.find(secret, at + 1)
        return data if masked is None else bytes(masked)

    def unfinished(self, data: bytes) -> int:
        """How many bytes at the end of `data` may be the beginning of a secret that is not yet complete."""
        for length in range(min(self.reach, len(data)), 0, -1):
            end = data[-length:]
            if any(len(secret) > length and secret.startswith(end) for secret in self._secrets):
                return length
        return 0
