from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganserve.picture_headers import (
    JPEG_SIGNATURE,
    MAX_HEADER_BYTES,
    MAX_HEADER_PARTS,
    MAX_JPEG_SCANS,
    PNG_SIGNATURE,
    UnreadablePictureError,
    exif_orientation,
    read_outline,
)
from tests.picture_files import ORIENTATION, TURNED_LEFT, encoded, many_chunks, many_scans, noise, orientation

PNG, JPEG = encoded(noise(8, 8, 3)), encoded(noise(8, 8, 3), "JPEG")


def with_chunks(*chunks: tuple[bytes, bytes], before: bytes = b"IDAT") -> bytes:
    """A PNG file with more chunks (kind, data) before its pixels, or its end."""
    more = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    place = PNG.index(before) - 4
    return PNG[:place] + more + PNG[place:]


def with_segments(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG file with more segments (marker, data) at its beginning."""
    more = b"".join(bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return JPEG[:2] + more + JPEG[2:]


def pixels_of(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


METADATA: dict[str, Callable[[int], bytes]] = {
    "PNG": many_chunks,
    "PNG after its pixels": lambda count: many_chunks(count, before=b"IEND"),
    "JPEG": lambda count: with_segments(*[(0xFE, b"note")] * count),
}


@pytest.mark.parametrize("kind", METADATA)
def test_too_much_metadata_is_refused(kind: str) -> None:
    assert read_outline(METADATA[kind](MAX_HEADER_PARTS - 20)).data
    with pytest.raises(UnreadablePictureError, match=r"more than 1000 (chunks|segments) of metadata"):
        read_outline(METADATA[kind](MAX_HEADER_PARTS + 1))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_chunks((b"zTXt", bytes(MAX_HEADER_BYTES))), id="PNG"),
        pytest.param(with_segments(*[(0xE2, bytes(65_533))] * 260), id="JPEG"),
        pytest.param(JPEG[:20] + bytes(MAX_HEADER_BYTES) + JPEG[20:], id="JPEG-of-padding"),
    ],
)
def test_too_large_a_header_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePictureError, match="its header is larger than 16 MiB"):
        read_outline(data)


def test_too_many_chunks_of_pixels_are_refused() -> None:
    with pytest.raises(UnreadablePictureError, match="more than 100000 chunks"):
        read_outline(many_chunks(100_000, b"IDAT", b""))


def test_too_many_scans_are_refused() -> None:
    allowed = many_scans(MAX_JPEG_SCANS)
    assert read_outline(allowed).data == allowed
    assert pixels_of(allowed).shape == (16, 16, 3)
    with pytest.raises(UnreadablePictureError, match="more than 100 scans"):
        read_outline(many_scans(MAX_JPEG_SCANS + 1))


def test_a_video_appended_to_a_picture_does_not_count_as_scans() -> None:
    video = b"\xff\xda\x12\x34" * 1000
    assert read_outline(JPEG + video).data == JPEG + video


@pytest.mark.parametrize(
    ("data", "bare"),
    [
        (with_chunks((b"tEXt", b"a\x00b"), (b"iCCP", b"junk"), (b"eXIf", b"MM")), PNG),
        (with_chunks((b"iTXt", b"a"), before=b"IEND"), PNG),
        (with_segments((0xE1, b"Exif\x00\x00MM"), (0xE2, b"MPF\x00"), (0xED, b"Photoshop"), (0xFE, b"note")), JPEG),
        (JPEG[:20] + b"\x00padding\xff\xff" + JPEG[20:], JPEG),
    ],
)
def test_a_decoder_gets_the_file_without_its_metadata(data: bytes, bare: bytes) -> None:
    assert read_outline(data).data == bare


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(Image.new("CMYK", (8, 8), (9, 99, 199, 20)), id="CMYK"),
        pytest.param(Image.fromarray(noise(8, 8)), id="gray"),
        pytest.param(Image.fromarray(noise(8, 8, 3)), id="RGB"),
    ],
)
def test_segments_that_define_colours_are_kept(picture: Image.Image) -> None:
    data = encoded(picture, "JPEG", exif=orientation(3), comment=b"note")
    bare = read_outline(data).data
    assert b"Exif" not in bare
    assert b"note" not in bare
    np.testing.assert_array_equal(pixels_of(bare), pixels_of(data))


def test_transparency_and_palettes_are_kept() -> None:
    data = encoded(Image.fromarray(noise(8, 8)).convert("P"), transparency=3, exif=orientation(3))
    with Image.open(io.BytesIO(read_outline(data).data)) as image:
        assert image.info["transparency"] == 3
        np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), pixels_of_rgba(data))


def pixels_of_rgba(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(JPEG[:2] + b"\xff\xe0\x00\x01" + JPEG[2:], id="length-of-less-than-itself"),
        pytest.param(JPEG[:2] + b"\xff\xe0\xff\xff" + JPEG[2:100], id="segment-beyond-the-end"),
        pytest.param(JPEG[:2] + b"\xff\xd9" + JPEG[2:], id="end-at-the-beginning"),
        pytest.param(JPEG[:2] + b"\xff\xf0" + JPEG[2:], id="unknown-marker"),
        pytest.param(JPEG[:20], id="cut-short"),
        pytest.param(JPEG_SIGNATURE, id="nothing-more"),
    ],
)
def test_a_damaged_jpeg_header_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePictureError):
        read_outline(data)


@given(st.binary(max_size=200), st.sampled_from([b"", PNG_SIGNATURE, JPEG_SIGNATURE, PNG[:40], JPEG[:40]]))
def test_any_bytes_are_read_or_refused_and_never_grow(junk: bytes, prefix: bytes) -> None:
    data = prefix + junk
    try:
        outline = read_outline(data)
    except UnreadablePictureError:
        return  # any other error fails the test
    assert len(outline.data) <= len(data)
    assert 1 <= exif_orientation(outline.exif) <= 8


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(10))
def test_the_orientation_is_found_among_other_tags(order: str, value: int) -> None:
    head = {"<": b"II*\x00", ">": b"MM\x00*"}[order]
    tags = [(0x010F, 2, 4, b"abc\x00"), (ORIENTATION, 3, 1, struct.pack(f"{order}H", value) + b"\x00\x00")]
    entries = b"".join(struct.pack(f"{order}HHI", *tag[:3]) + tag[3] for tag in tags)
    exif = head + struct.pack(f"{order}IH", 8, 2) + entries
    expected = value if 1 <= value <= 8 else 1
    assert exif_orientation(exif) == exif_orientation(b"Exif\x00\x00" + exif) == expected


def test_a_truncated_exif_block_is_read_without_an_error() -> None:
    exif = orientation(TURNED_LEFT).tobytes()
    assert exif_orientation(exif) == TURNED_LEFT
    for length in range(len(exif)):
        assert exif_orientation(exif[:length]) in {1, TURNED_LEFT}


@given(st.binary(max_size=60), st.sampled_from([b"", b"II*\x00", b"MM\x00*", b"Exif\x00\x00II*\x00\x08\x00\x00\x00"]))
def test_any_exif_block_has_an_orientation(junk: bytes, prefix: bytes) -> None:
    assert 1 <= exif_orientation(prefix + junk) <= 8
