from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from client.errors import InvalidRequest, UnwritableOutput
from client.files import latents as latent_files
from client.files import latents as npz_files
from client.files.latents import MAX_TEXT_BYTES, check_latents_output, npy_bytes, read_latents, save_latents

LATENTS = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)

some_latents = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the examples of one test share."""
    return tmp_path_factory.mktemp("latents")


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def npy(array: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(shape: str, dtype: str = "'<f4'") -> bytes:
    """A .npy file of a header alone, which says anything."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def is_refused_in_one_line(path: Path) -> bool:
    """Whether a file is refused, as it must be; if not, it must hold latents."""
    reason = ""
    try:
        latents = read_latents(path)
    except InvalidRequest as error:
        reason = str(error)
    if not reason:
        assert latents.ndim == 2
        assert np.isfinite(latents).all()
        return False
    assert reason.startswith(f"{path}: ")
    assert "\n" not in reason
    return True


@given(latents=some_latents)
def test_every_kind_of_file_reads_back_the_same(scratch: Path, latents: NDArray[np.float32]) -> None:
    save_latents(latents, scratch / "saved.npy")
    np.savez(scratch / "a.npz", latents)
    np.savez_compressed(scratch / "packed.npz", latents=latents, other=np.zeros(3))
    written(scratch / "a.json", json.dumps(latents.tolist()))
    written(scratch / "object.json", json.dumps({"seed": 3, "latents": latents.tolist()}))
    columns = [f"z{index}" for index in range(latents.shape[1])]
    for delimiter in ",;\t ":
        lines = [delimiter.join(columns), *(delimiter.join(map(repr, row)) for row in latents.tolist())]
        written(scratch / f"table{ord(delimiter)}.csv", "\r\n".join(lines) + "\r\n")
    for path in scratch.iterdir():
        read = read_latents(path)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, latents, err_msg=path.name)
    np.testing.assert_array_equal(np.load(scratch / "saved.npy", allow_pickle=False), latents)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "i1", "<i8", "u1", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_type_and_order_are_read(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.array([[1, 2, 3], [4, 5, 100]], dtype=dtype, order=order)
    np.testing.assert_array_equal(read_latents(written(tmp_path / "a.npy", npy(array))), [[1, 2, 3], [4, 5, 100]])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", npy(np.array([1.0, -2.0, 0.5]))),
        ("A.NPY", npy(np.array([1.0, -2.0, 0.5]))),
        ("a.json", "[1, -2, 0.5]"),
        ("a.json", '\n{"latents": [1, -2.0, 5e-1]}'),
        ("a.csv", "1,-2,0.5"),
        ("a.csv", "\ufeff1;-2;0.5\n\n"),
        ("a.csv", '"x","y","z"\n"1", -2 ,0.5\n'),
    ],
)
def test_a_single_vector_is_one_row(tmp_path: Path, name: str, content: bytes | str) -> None:
    np.testing.assert_array_equal(read_latents(written(tmp_path / name, content)), [[1, -2, 0.5]])


def test_a_first_line_that_numbers_the_columns_is_left_out_unless_it_may_be_a_latent(tmp_path: Path) -> None:
    numbered = written(tmp_path / "a.csv", "0,1,2,3,4,5,6,7\n9,9,9,9,9,9,9,9\n")
    np.testing.assert_array_equal(read_latents(numbered), np.full((1, 8), 9))
    small = written(tmp_path / "b.csv", "0,1\n5,5\n")
    np.testing.assert_array_equal(read_latents(small), [[0, 1], [5, 5]])
    alone = written(tmp_path / "c.csv", "0,1,2,3,4,5,6,7\n")
    np.testing.assert_array_equal(read_latents(alone), [range(8)])


def test_an_array_of_an_archive_is_named_after_a_colon(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", first=LATENTS, second=2 * LATENTS)
    np.testing.assert_array_equal(read_latents(f"{tmp_path}/a.npz:second"), 2 * LATENTS)
    with pytest.raises(InvalidRequest, match=r"a\.npz: holds several arrays \(first, second\); name one"):
        read_latents(tmp_path / "a.npz")
    with pytest.raises(InvalidRequest, match=r"a\.npz:third: there is no such array; it holds first, second"):
        read_latents(f"{tmp_path}/a.npz:third")


WITHOUT_LATENTS: list[tuple[str, bytes | str, str]] = [
    ("a.txt", "1", r"latents are read from \.npy, \.npz, \.json, \.csv files"),
    ("a.npy", b"", r"is no \.npy file"),
    ("a.npy", b"PK\x03\x04", r"is no \.npy file"),
    ("a.npy", header("(3, 4)"), "is cut off: "),
    ("a.npy", npy(LATENTS)[:-1], "is cut off: "),
    ("a.npy", header("(1 << 40, 4)"), r"is no \.npy file"),
    ("a.npy", header("(1000000000000, 4)"), "holds 4000000000000 numbers, and 268435456 is the most"),
    ("a.npy", header("(-1, -4)"), r"must hold rows of latents, \(rows, dim\), not the shape \(-1, -4\)"),
    ("a.npy", header("(0, 4)"), "must hold rows of latents"),
    ("a.npy", header("()"), "must hold rows of latents"),
    ("a.npy", header("(2, 2, 2)"), "must hold rows of latents"),
    ("a.npy", header("(True, 4)") + bytes(16), "must hold rows of latents"),
    ("a.npy", header("(2, 2)", "'|O'"), "must hold plain numbers, not object"),
    ("a.npy", header("(2, 2)", "'<U9'"), "must hold plain numbers, not <U9"),
    ("a.npy", header("(2, 2)", "'<c8'"), "must hold plain numbers, not complex64"),
    ("a.npy", header("(2, 2)", "[('a', '<f4')]"), "must hold plain numbers"),
    ("a.npy", header("(" * 9999), r"is no \.npy file"),
    ("a.npy", b"\x93NUMPY\x03\x00" + header("(2, 2)")[8:], r"is a \.npy file of version 3\.0"),
    ("a.npy", npy(np.array([{"a": 1}], dtype=object), allow_pickle=True), "must hold plain numbers, not object"),
    ("a.npy", npy(np.array([[0, 0], [0, np.nan]])), r"row 1 \(the first is 0\) holds nan at place 1"),
    ("a.npy", npy(np.array([[0, 1e39]])), r"row 0 \(the first is 0\) holds 1e\+39 at place 1"),
    ("a.npz", b"PK", r"is no \.npz file"),
    ("a.npz", npy(LATENTS), r"is no \.npz file"),
    ("a.json", "", r"is no JSON \(line 1: Expecting value\)"),
    ("a.json", b"\xff\xfe\x00", r"is no JSON \(no text, or too deep\)"),
    ("a.json", "[" * 100_000, r"is no JSON \(no text, or too deep\)"),
    ("a.json", "3", "must hold a list of rows"),
    ("a.json", "[]", "must hold a list of rows"),
    ("a.json", "[[]]", r"row 0 \(the first is 0\) holds no numbers; mend it"),
    ("a.json", "[[1], []]", r"row 1 \(the first is 0\) holds no numbers; mend it"),
    ("a.json", '{"rows": []}', 'is an object without "latents"'),
    ("a.json", "[[1, 2], [1]]", r"row 1 \(the first is 0\) has 1 numbers, and row 0 has 2; all must have as many"),
    ("a.json", "[[1], 2]", r"row 1 \(the first is 0\) must be a list of numbers"),
    ("a.json", "[[true]]", r"row 0 \(the first is 0\) must be a list of numbers"),
    ("a.json", '["1"]', "must be a list of numbers"),
    ("a.json", "[[[1]]]", "must be a list of numbers"),
    ("a.json", f"[[1{'0' * 400}]]", "holds a number that is too large for float32"),
    ("a.json", f"[[1{'0' * 9999}]]", "is no JSON"),
    ("a.json", "[[1], [NaN]]", r"row 1 \(the first is 0\) holds nan at place 0"),
    ("a.json", "[[1, -Infinity]]", r"row 0 \(the first is 0\) holds -inf at place 1"),
    ("a.csv", "", "holds no rows"),
    ("a.csv", "\n \n", "holds no rows"),
    ("a.csv", b"\xff\xfe1", "is not text in UTF-8"),
    ("a.csv", "x,y\n1,2\n3,4\n5\n", r"row 2 \(the first is 0\) has 1 numbers, and row 0 has 2"),
    ("a.csv", "x,y\n1,2\n3,four\n", "line 3 holds 'four', which is no number"),
    ("a.csv", "x,y\n", "line 1 holds 'x', which is no number"),
    ("a.csv", "1,2,\n", "line 1 holds '', which is no number"),
    ("a.csv", "1,2\n1,inf\n", r"row 1 \(the first is 0\) holds inf at place 1"),
    ("a.csv", f'1,"{"2" * 200_000}"', "cannot be taken for CSV"),
]


@pytest.mark.parametrize(("name", "content", "message"), WITHOUT_LATENTS, ids=range(len(WITHOUT_LATENTS)))
def test_what_holds_no_latents_is_one_line_that_names_the_file(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(InvalidRequest, match=message) as caught:
        read_latents(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 300 + len(str(path))


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no\.npy: cannot be read \(No such file or directory\)"):
        read_latents(tmp_path / "no.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(InvalidRequest, match=r"folder\.npy: (cannot be read \(Is a directory\)|is not a plain file)"):
        read_latents(tmp_path / "folder.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InvalidRequest, match=r"pipe\.npy: is not a plain file"):
        read_latents(tmp_path / "pipe.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.json", "a.csv"])
def test_files_that_are_too_large_are_not_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as sparse:
        sparse.truncate(3 << 30)
    with pytest.raises(InvalidRequest, match=r"has 3221225472 bytes, and .* is the most; give fewer rows"):
        read_latents(tmp_path / name)
    assert MAX_TEXT_BYTES < 3 << 30


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_files, "MAX_ARRAY_BYTES", 100_000)
    bomb = archive(tmp_path / "a.npz", {"latents.npy": npy(np.zeros((1000, 100), np.float32))})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(InvalidRequest, match=r"latents\.npy unpacks to 400128 bytes, and 100000 is the most"):
        read_latents(bomb)


def test_an_archive_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"latents.npy": npy(np.zeros((1000, 100), np.float32))})
    size, lie = (400128).to_bytes(4, "little"), (4128).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(size) == 2
    with pytest.raises(InvalidRequest, match=r"is cut off|is no \.npz file"):
        read_latents(written(path, data.replace(size, lie)))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds no array"),
        ({"readme.txt": b"hello"}, "holds no array"),
        ({"latents.npy": b"hello"}, r"is no \.npy file, or a damaged one"),
        ({"latents.npy": header("(2, 2)")}, "is cut off"),
        ({"latents.npy": npy(np.array([None]), allow_pickle=True)}, "must hold plain numbers, not object"),
        ({f"a{index:02}.npy": b"" for index in range(20)}, r"holds several arrays \(a00, .*, a07, \.\.\.\)"),
    ],
)
def test_an_archive_without_the_array_is_one_line(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    path = archive(tmp_path / "a.npz", members)
    with pytest.raises(InvalidRequest, match=message):
        read_latents(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damage_anywhere_in_an_archive_is_one_line_or_harmless(tmp_path: Path, compression: int) -> None:
    whole = archive(tmp_path / "a.npz", {"latents.npy": npy(LATENTS)}, compression).read_bytes()
    refused = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        refused += is_refused_in_one_line(written(tmp_path / "b.npz", bytes(damaged)))
    assert refused > len(whole) // 20


def test_a_list_of_members_out_of_proportion_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_files, "_MAX_LIST_BYTES", 1000)
    path = archive(tmp_path / "a.npz", {f"{index}.npy": b"" for index in range(50)})
    with pytest.raises(InvalidRequest, match="holds too many arrays"):
        read_latents(path)


def test_an_encrypted_archive_is_one_line(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"latents.npy": npy(LATENTS)})
    data = path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
    data = data.replace(b"PK\x03\x04\x14\x00\x00\x00", b"PK\x03\x04\x14\x00\x01\x00")
    with pytest.raises(InvalidRequest, match=r"cannot be unpacked \(.*encrypted"):
        read_latents(written(path, data))


@settings(max_examples=300)
@given(
    data=st.binary(max_size=300)
    | st.binary(max_size=300).map(header("(2, 2)")[:20].__add__)
    | st.text("0123456789.,;-+einfax\n \t\"'[]{}", max_size=60),
    name=st.sampled_from(["a.npy", "b.npz", "c.json", "d.csv"]),
)
def test_any_content_at_all_is_latents_or_one_line(scratch: Path, data: bytes | str, name: str) -> None:
    is_refused_in_one_line(written(scratch / name, data))


def test_latents_are_saved_as_npy_only_and_where_that_can_be(tmp_path: Path) -> None:
    with pytest.raises(UnwritableOutput, match=r"a\.txt: latents are saved as \.npy"):
        check_latents_output(tmp_path / "a.txt")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(UnwritableOutput, match="is a folder"):
        save_latents(LATENTS, tmp_path / "folder.npy")
    check_latents_output(tmp_path / "new" / "a.npy")
    save_latents(LATENTS[::2], tmp_path / "new" / "a.npy")
    assert (tmp_path / "new" / "a.npy").read_bytes() == npy_bytes(LATENTS[::2])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npy"]
