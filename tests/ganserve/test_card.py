from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ganserve import bundle
from ganserve.bundle import BundleError, Card, Fidelity, ImageInput, LatentInput, Parity, RowInput, example_rows
from ganserve.latents import DISTRIBUTIONS

sizes = st.integers(1, 1 << 20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
sha256s = st.binary(min_size=32, max_size=32).map(bytes.hex)
inputs = st.builds(LatentInput, latent_dim=sizes, distribution=st.sampled_from(DISTRIBUTIONS)) | st.builds(
    ImageInput, channels=st.integers(1, 4), height=sizes, width=sizes
)
fidelities = st.builds(
    Fidelity,
    images=st.integers(0, 256),
    within_one_level=st.floats(0, 1),
    psnr_db=numbers,
    largest_level_difference=st.integers(0, 255),
    published=st.booleans(),
)
cards = st.builds(
    Card,
    schema_version=st.sampled_from([2, 3, 4]),
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    version=sizes,
    kind=st.text(max_size=9),
    architecture=st.text(max_size=9),
    dataset=st.text(max_size=9),
    input=inputs,
    channels=st.integers(1, 4),
    height=sizes,
    width=sizes,
    value_min=numbers,
    value_max=numbers,
    files=st.dictionaries(st.text(max_size=9), sha256s, max_size=3),
    parity=st.lists(st.builds(Parity, sizes, numbers, numbers, st.integers(0, 255), st.integers(0, 255)), max_size=3),
    variants=st.dictionaries(st.sampled_from(sorted(bundle.VARIANT_FILES)), fidelities),
    training=st.dictionaries(
        st.text(max_size=9), numbers | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=9) | st.none()
    ),
    tool_versions=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
)


def make_card(**changes: Any) -> Card:
    facts: dict[str, Any] = {
        "name": "tiny",
        "version": 1,
        "kind": "dcgan",
        "architecture": "dcgan",
        "dataset": "digits",
        "input": LatentInput(latent_dim=6),
        "channels": 3,
        "height": 8,
        "width": 8,
        "files": {},
        "parity": [],
        "training": {},
        "tool_versions": {},
    }
    return Card(**(facts | changes))


FIDELITY = msgspec.to_builtins(Fidelity(256, 0.9995, 60.2, 3, published=True))


def read_card_bytes(content: bytes, name: str = "tiny", version: int = 1) -> Card:
    with tempfile.TemporaryDirectory() as repository:
        folder = Path(repository) / name / str(version)
        folder.mkdir(parents=True)
        (folder / bundle.CARD_FILE).write_bytes(content)
        return bundle.read_card(folder)


@given(cards)
def test_card_survives_writing_and_reading(card: Card) -> None:
    assert read_card_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2), card.name, card.version) == card


def test_card_of_schema_version_2_is_read() -> None:
    fields = {**msgspec.to_builtins(make_card()), "schema_version": 2}
    del fields["variants"]
    card = read_card_bytes(msgspec.json.encode(fields))
    assert card.schema_version == 2
    assert card.variants == {}
    assert make_card().schema_version == 4


def test_card_of_schema_version_3_is_read() -> None:
    fields = {**msgspec.to_builtins(make_card()), "schema_version": 3}
    del fields["license"], fields["intended_use"]
    card = read_card_bytes(msgspec.json.encode(fields))
    assert (card.schema_version, card.license, card.intended_use) == (3, "", "")


def test_fidelity_is_one_line_of_text() -> None:
    text = str(Fidelity(256, 0.98765, 44.44, 9, published=False))
    assert text == "98.765% of pixel values within one level, PSNR 44.4 dB, largest difference 9, over 256 images"
    assert str(Fidelity(0, 0.0, 0.0, 255, published=False)) == "the network does not run in this precision"


@pytest.mark.parametrize(("name", "version"), [("other", 1), ("tiny", 2)])
def test_card_of_another_version_is_refused(name: str, version: int) -> None:
    with pytest.raises(BundleError, match="is the card of tiny/1"):
        read_card_bytes(msgspec.json.encode(make_card()), name, version)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
@example(b"")
@example(b"null")
@example(b"{}")
@example(b"\xff\xfe{}")
@example(b"[" * 100_000)
@example(b'{"training":' * 50_000)
@example(b'{"parity":[{"rows":' + b"[" * 100_000)
def test_junk_is_not_a_card(content: bytes) -> None:
    with pytest.raises(BundleError, match="not a valid card"):
        read_card_bytes(content)


@given(cards, st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 4))
def test_damaged_card_is_a_valid_card_or_a_bundle_error(card: Card, at: int, inserted: bytes, dropped: int) -> None:
    content = msgspec.json.encode(card)
    at %= len(content)
    damaged = content[:at] + inserted + content[at + dropped :]
    with contextlib.suppress(BundleError):
        assert isinstance(read_card_bytes(damaged, card.name, card.version), Card)


@given(cards, st.data())
def test_card_with_one_wrong_field_is_refused(card: Card, data: st.DataObject) -> None:
    fields: dict[str, Any] = msgspec.to_builtins(card)
    name = data.draw(st.sampled_from(sorted(fields)))
    wrong: Any = data.draw(st.sampled_from([[[]], {"a": []}, -1, True, "no", 2.5, None]))
    try:
        msgspec.convert({**fields, name: wrong}, Card)
    except msgspec.ValidationError:
        pass
    else:
        assume(False)
    with pytest.raises(BundleError, match=name):
        read_card_bytes(msgspec.json.encode({**fields, name: wrong}))


def test_a_card_can_name_every_distribution_that_a_seed_can_draw() -> None:
    assert get_args(get_type_hints(LatentInput)["distribution"]) == DISTRIBUTIONS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, "schema_version"),
        ({"schema_version": 5}, "schema_version"),
        ({"license": "x" * 501}, "license"),
        ({"version": 0}, "version"),
        ({"channels": 5}, "channels"),
        ({"input": {"type": "latents", "latent_dim": 1 << 21}}, "latent_dim"),
        ({"input": {"type": "latents", "latent_dim": 6, "distribution": "cauchy"}}, "distribution"),
        ({"input": {"type": "latents", "latent_dim": 6, "channels": 3}}, "channels"),
        ({"input": {"type": "image", "channels": 5, "height": 8, "width": 8}}, "channels"),
        ({"input": {"type": "image", "channels": 3, "height": 0, "width": 8}}, "height"),
        ({"input": {"type": "text"}}, "input"),
        ({"input": None}, "input"),
        ({"files": {"model.onnx": "ABC"}}, "files"),
        ({"variants": {"bf16": {**FIDELITY, "within_one_level": 1.5}}}, "within_one_level"),
        ({"variants": {"bf16": {**FIDELITY, "psnr_db": None}}}, "psnr_db"),
        ({"variants": {"bf16": {**FIDELITY, "largest_level_difference": 256}}}, "largest_level_difference"),
        ({"variants": {"bf16": {**FIDELITY, "images": -1}}}, "images"),
        ({"variants": {"bf16": {}}}, "images"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_card_field_out_of_bounds_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_card_bytes(msgspec.json.encode({**msgspec.to_builtins(make_card()), **change}))


def test_enormous_card_is_not_read(tmp_path: Path) -> None:
    (tmp_path / bundle.CARD_FILE).write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(BundleError, match="larger than 1048576 bytes"):
        bundle.read_card(tmp_path)


def test_missing_card_and_card_that_is_a_folder_give_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot be read .*No such file"):
        bundle.read_card(tmp_path)
    (tmp_path / bundle.CARD_FILE).mkdir()
    with pytest.raises(BundleError, match=r"cannot be read .*directory"):
        bundle.read_card(tmp_path)


@pytest.mark.parametrize(
    ("row_input", "side", "fitting", "proven"),
    [
        (LatentInput(latent_dim=6), 64, 256, 64),
        (LatentInput(latent_dim=6), 256, 16, 16),
        (LatentInput(latent_dim=1 << 20), 64, 256, 64),
        (LatentInput(latent_dim=6), 4096, 2, 2),
        (ImageInput(channels=3, height=64, width=64), 256, 16, 16),
        (ImageInput(channels=3, height=256, width=256), 64, 16, 16),
        (ImageInput(channels=3, height=4096, width=4096), 64, 2, 2),
    ],
)
def test_batches_fit_the_larger_of_input_and_output(row_input: RowInput, side: int, fitting: int, proven: int) -> None:
    assert bundle.fitting_batch_rows(row_input, side, side) == fitting
    assert bundle.proven_batch_rows(row_input, side, side) == proven


@pytest.mark.parametrize("row_input", [LatentInput(latent_dim=6), ImageInput(channels=3, height=8, width=12)])
def test_example_rows_are_the_inputs_and_follow_the_seed(row_input: RowInput) -> None:
    rows = example_rows(row_input, 3, 5)
    assert rows.shape == (5, *row_input.row_shape)
    assert rows.dtype == np.dtype(row_input.dtype)
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows, example_rows(row_input, 3, 5))
    assert (rows != example_rows(row_input, 4, 5)).any()


def test_a_card_gives_the_dtype_and_the_shape_of_one_row_of_each_output() -> None:
    card = make_card(channels=3, height=4, width=6)
    assert card.outputs == {"images": ("float32", (3, 4, 6)), "pixels": ("uint8", (4, 6, 3))}
