from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.errors import InvalidRequest, UnwritableOutput
from client.files.latents import check_latents_output, read_latents, save_latents

LATENTS = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def npy(array: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def text(delimiter: str, *, names: bool) -> str:
    lines = [delimiter.join(map(repr, row)) for row in LATENTS.tolist()]
    return "\r\n".join([delimiter.join(["z0", "z1", "z2", "z3"])] * names + lines) + "\r\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", npy(LATENTS)),
        ("A.NPY", npy(np.asfortranarray(LATENTS.astype(">f8")))),
        ("a.npz", npz(anything=LATENTS)),
        ("a.npz", npz(latents=LATENTS, other=np.zeros(3))),
        ("a.json", json.dumps(LATENTS.tolist())),
        ("a.json", json.dumps({"seed": 3, "latents": LATENTS.tolist()})),
        ("a.csv", text(",", names=True)),
        ("a.csv", "\ufeff" + text(";", names=False)),
        ("a.csv", text("\t", names=True)),
        ("a.txt", text(" ", names=False)),
        ("a.txt", "# a comment\n" + text("  ", names=True)),
    ],
    ids=range(11),
)
def test_every_file_format_gives_the_same_latents(tmp_path: Path, name: str, content: bytes | str) -> None:
    read = read_latents(written(tmp_path / name, content))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, LATENTS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", npy(np.array([1.0, -2.0, 0.5]))),
        ("a.json", '\n{"latents": [1, -2.0, 5e-1]}'),
        ("a.csv", "1;-2;0.5\n\n"),
        ("a.csv", '"x","y","z"\n"1", -2 ,0.5\n'),
    ],
)
def test_a_single_latent_is_one_row(tmp_path: Path, name: str, content: bytes | str) -> None:
    np.testing.assert_array_equal(read_latents(written(tmp_path / name, content)), [[1, -2, 0.5]])


@pytest.mark.parametrize("dtype", ["<f2", "i1", "u1"])
def test_numbers_of_any_type_become_float32(tmp_path: Path, dtype: str) -> None:
    array = np.array([[1, 2, 3], [4, 5, 100]], dtype=dtype)
    np.testing.assert_array_equal(read_latents(written(tmp_path / "a.npy", npy(array))), array.astype(np.float32))


def test_a_first_line_that_numbers_the_columns_is_skipped_unless_it_may_be_a_latent(tmp_path: Path) -> None:
    numbered = written(tmp_path / "a.csv", "0,1,2,3,4,5,6,7\n9,9,9,9,9,9,9,9\n")
    np.testing.assert_array_equal(read_latents(numbered), np.full((1, 8), 9))
    small = written(tmp_path / "b.csv", "0,1\n5,5\n")
    np.testing.assert_array_equal(read_latents(small), [[0, 1], [5, 5]])
    alone = written(tmp_path / "c.csv", "0,1,2,3,4,5,6,7\n")
    np.testing.assert_array_equal(read_latents(alone), [range(8)])


def test_an_array_of_an_archive_is_named_after_a_colon(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=LATENTS, second=2 * LATENTS)
    np.testing.assert_array_equal(read_latents(f"{tmp_path}/a.npz:second"), 2 * LATENTS)
    with pytest.raises(InvalidRequest, match=r"a\.npz: holds several arrays \(first, second\); name one, as FILE\.npz"):
        read_latents(tmp_path / "a.npz")
    with pytest.raises(InvalidRequest, match=r"a\.npz:third: no array has this name; name one of first, second"):
        read_latents(f"{tmp_path}/a.npz:third")


def test_a_file_with_a_colon_in_its_name_is_read(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_latents(written(tmp_path / "a.npz:b.json", "[[1.0]]")), [[1]])


WITHOUT_LATENTS: list[tuple[str, bytes | str, str]] = [
    ("a.dat", "1", r"unknown format; convert it to one of \.npy, \.npz, \.json, \.csv, \.txt"),
    ("a.npy", b"", r"is not a valid \.npy file of numbers \(No data left in file\)"),
    ("a.npy", b"hello", r"is not a valid \.npy file"),
    ("a.npy", npy(LATENTS)[:-1], r"is not a valid \.npy file .*could only read 11 elements"),
    ("a.npy", npy(np.array([{"a": 1}]), allow_pickle=True), "pickled Python objects are never loaded"),
    ("a.npy", npy(np.zeros((0, 4))), r"must hold latents of shape \(rows, dim\), not \(0, 4\)"),
    ("a.npy", npy(np.zeros(())), r"must hold latents of shape \(rows, dim\), not \(\)"),
    ("a.npy", npy(np.zeros((2, 2, 2))), r"must hold latents of shape \(rows, dim\), not \(2, 2, 2\)"),
    ("a.npy", npy(np.array([["1"]])), "must hold plain numbers, not <U1"),
    ("a.npy", npy(np.array([[1j]])), "must hold plain numbers, not complex128"),
    ("a.npy", npy(np.zeros((1_000_001, 1), np.int8)), "has 1000001 rows; the limit is 1000000"),
    ("a.npy", npy(np.array([[0, 0], [0, np.nan]])), r"row 1 \(counted from 0\) holds nan in column 1, which is not a"),
    ("a.npy", npy(np.array([[0, 1e39]])), r"row 0 \(counted from 0\) holds 1e\+39 in column 1"),
    ("a.npz", b"PK", r"is not a valid \.npz file"),
    ("a.npz", npz(), "holds no array"),
    ("a.npz", npz(latents=np.array([None])), "pickled Python objects are never loaded"),
    ("a.npz", npz(**{f"a{index:02}": LATENTS for index in range(20)}), r"arrays \(a00, .*, a07, \.\.\.\)"),
    ("a.json", "", r"is not a valid \.json file of numbers \(Expecting value: line 1"),
    ("a.json", b"\xff\xfe\x00", r"is not a valid \.json file .*can't decode"),
    ("a.json", "[" * 100_000, r"is not a valid \.json file"),
    ("a.json", "3", r"must hold latents of shape \(rows, dim\)"),
    ("a.json", "[]", r"must hold latents of shape \(rows, dim\)"),
    ("a.json", '{"rows": []}', 'is an object without "latents"'),
    ("a.json", "[[1, 2], [1]]", r"row 1 \(counted from 0\) is not as long as row 0"),
    ("a.json", "[[1, 2], 3]", r"row 1 \(counted from 0\) is not as long as row 0"),
    ("a.json", "[[true]]", "must hold plain numbers, not bool"),
    ("a.json", '["1"]', "must hold plain numbers"),
    ("a.json", "[[1], [NaN]]", r"row 1 \(counted from 0\) holds nan in column 0"),
    ("a.csv", "", "holds no rows"),
    ("a.csv", "\n \n", "holds no rows"),
    ("a.csv", b"\xff\xfe1", "can't decode"),
    ("a.csv", "x,y\n1,2\n3,4\n5\n", "the number of columns changed from 2 to 1"),
    ("a.csv", "x,y\n1,2\n3,four\n", "could not convert string 'four'"),
    ("a.csv", "x,y\n", "could not convert string 'x'"),
    ("a.csv", "1,2\n1,inf\n", r"row 1 \(counted from 0\) holds inf in column 1"),
]


@pytest.mark.parametrize(("name", "content", "message"), WITHOUT_LATENTS, ids=range(len(WITHOUT_LATENTS)))
def test_a_file_without_latents_is_refused_in_one_line_that_names_it(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(InvalidRequest, match=message) as caught:
        read_latents(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, reason in (("no.npy", "No such file or directory"), ("folder.csv", "Is a directory")):
        with pytest.raises(InvalidRequest, match=rf"{name}: cannot be read \({reason}\); name another file"):
            read_latents(tmp_path / name)


def test_latents_are_saved_as_npy_only_and_read_back_exactly(tmp_path: Path) -> None:
    with pytest.raises(UnwritableOutput, match=r"a\.txt: latents are saved as \.npy"):
        check_latents_output(tmp_path / "a.txt")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(UnwritableOutput, match="is a folder"):
        save_latents(LATENTS, tmp_path / "folder.npy")
    path = tmp_path / "new" / "a.npy"
    check_latents_output(path)
    save_latents(LATENTS[::2], path)
    np.testing.assert_array_equal(read_latents(path), LATENTS[::2])
    assert np.load(path, allow_pickle=False).dtype == np.dtype("<f4")
    assert [file.name for file in path.parent.iterdir()] == ["a.npy"]
