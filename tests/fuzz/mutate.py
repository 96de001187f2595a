"""Small changes to bytes: what a bad disk, a broken download or an unkind person makes of a file."""

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

Change = Callable[[bytes, Random], bytes]

MAX_INSERTED = 256
NASTY = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def flip(data: bytes, rng: Random) -> bytes:
    """Turn one bit over."""
    if not data:
        return data
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def flips(data: bytes, rng: Random) -> bytes:
    """Turn some bits over."""
    for _ in range(rng.randrange(2, 9)):
        data = flip(data, rng)
    return data


def head(data: bytes, rng: Random) -> bytes:
    """Turn some bits over among the first bytes, where a file says what it is."""
    return flips(data[:64], rng) + data[64:]


def run(data: bytes, rng: Random) -> bytes:
    """Write one byte, or noise, over a run of bytes."""
    start, length = rng.randrange(len(data) + 1), rng.randrange(1, MAX_INSERTED)
    length = min(length, len(data) - start)
    new = rng.randbytes(length) if rng.random() < 0.5 else bytes([rng.choice((0, 255))]) * length
    return data[:start] + new + data[start + length :]


def number(data: bytes, rng: Random) -> bytes:
    """Write a number at the edge of its type over 1, 2 or 4 bytes: lengths, counts and offsets are such numbers."""
    size = rng.choice((1, 2, 4))
    if len(data) < size:
        return data
    place = rng.randrange(len(data) - size + 1) if rng.random() < 0.5 else rng.randrange(min(64, len(data) - size + 1))
    value = rng.choice(NASTY) & (256**size - 1)
    return data[:place] + value.to_bytes(size, rng.choice(("big", "little"))) + data[place + size :]


def cut(data: bytes, rng: Random) -> bytes:
    """Leave the end away."""
    return data[: rng.randrange(len(data) + 1)]


def remove(data: bytes, rng: Random) -> bytes:
    """Leave a piece away."""
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.randrange(1, MAX_INSERTED) :]


def repeat(data: bytes, rng: Random) -> bytes:
    """Write a piece twice."""
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.randrange(1, MAX_INSERTED)]
    return data[:start] + piece * rng.choice((2, 2, 3, 50)) + data[start + len(piece) :]


def insert(data: bytes, rng: Random) -> bytes:
    """Put noise in."""
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.randbytes(rng.randrange(1, MAX_INSERTED)) + data[start:]


def append(data: bytes, rng: Random) -> bytes:
    """Put noise at the end."""
    return data + rng.randbytes(rng.randrange(1, MAX_INSERTED))


GENERAL: tuple[Change, ...] = (flip, flip, flips, head, run, number, number, cut, remove, repeat, insert, append)


def splice(data: bytes, other: bytes, rng: Random) -> bytes:
    """Begin with one file and go on with another."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + other[min(place, rng.randrange(len(other) + 1)) :]


def some(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Make one to three general changes, now and then a splice with another file."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        change = rng.choice((*GENERAL, None))
        data = change(data, rng) if change else splice(data, rng.choice(others), rng)
    return data


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a whole PNG: (name, content)."""
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def png_of(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the PNG of these chunks, with the right lengths and checksums."""
    parts = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_content(data: bytes, rng: Random) -> bytes:
    """Change what is in one chunk of a PNG, or the chunks' order and number; lengths and checksums stay right."""
    chunks = png_chunks(data)
    place = rng.randrange(len(chunks))
    name, content = chunks[place]
    how = rng.randrange(5)
    if how == 0:
        del chunks[place]
    elif how == 1:
        chunks.insert(rng.randrange(len(chunks) + 1), (name, content))
    elif how == 2:
        chunks[place] = (rng.choice((b"zTXt", b"iCCP", b"tRNS", b"PLTE", b"eXIf", b"acTL", b"fdAT", b"IHDR")), content)
    else:
        chunks[place] = (name, rng.choice(GENERAL)(content, rng))
    return png_of(chunks)
