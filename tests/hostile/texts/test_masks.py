"""Secrets in other encodings and in base64 of several lines are masked, also if they arrive in pieces."""

import base64
import random
from pathlib import Path

import pytest

from jobfac.programs import Spool
from jobfac.programs.masking import Mask, in_encoding


@pytest.mark.parametrize("encoding", ["cp1252", "cp850", "utf-16", "UTF-16-LE", "utf-32"])
def test_a_secret_in_the_encoding_of_its_job_is_masked(encoding: str) -> None:
    mask = Mask(in_encoding(["pässwörd-ß".encode()], encoding))
    for said in ("x pässwörd-ß y".encode(encoding), "x pässwörd-ß y".encode()):
        assert len(masked := mask.apply(said)) == len(said)
        assert b"ss" not in masked.replace(b"\0", b"")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("width", [48, 64, 76])
def test_base64_in_several_lines_is_masked(width: int, end: str, tmp_path: Path) -> None:
    for length, before in ((16, 50), (60, 0), (60, 7), (300, 31), (3000, 1)):
        secret = random.Random(length).randbytes(length)
        text = base64.b64encode(b"x" * before + secret + b"yyy").decode()
        lines = [text[at : at + width] for at in range(0, len(text), width)]
        said = ("first" + end + end.join(lines) + end + end + "last" + end).encode()
        path = tmp_path / f"{length}-{before}"
        path.write_bytes(said)
        spool = Spool(path, 1_000_000, Mask([secret]))
        stored = b""
        while chunks := spool.read(most=97, final=len(stored) > len(said) - 500):
            stored += b"".join(chunk.data for chunk in chunks)
        assert len(stored) == len(said)
        assert stored.replace(b"*", b"").splitlines()[-1] == b"last"
        shown = stored.replace(b"\r", b"").replace(b"\n", b"")
        assert shown.count(b"*") >= length * 8 // 6 - 2, (length, before)
