from __future__ import annotations

from typing import Any

import pytest

from client import AsyncGanClient, GanClient
from client.sdk.deprecation import renamed_argument
from tests.client.fake_server import FakeServer, encoded
from tests.client.sdk.test_client_translate import random_images

OLD_NAMES = {
    "generate_chunks": "image_format",
    "generate_encoded_chunks": "file_format",
    "translate_chunks": "image_format",
    "translate_encoded_chunks": "file_format",
}


@renamed_argument("old", "new")
def doubled(*, new: int = 1) -> int:
    return 2 * new


def test_the_new_name_gives_no_warning() -> None:
    assert doubled(new=3) == 6
    assert doubled() == 2


def test_the_old_name_works_with_a_warning_at_the_callers_line() -> None:
    with pytest.warns(DeprecationWarning, match="doubled: 'old' is now 'new'") as warned:
        assert doubled(old=3) == 6  # type: ignore[call-arg]  # the old name
    assert warned[0].filename == __file__


def test_both_names_together_are_refused() -> None:
    with pytest.raises(TypeError, match="got both 'new' and its old name 'old'"):
        doubled(new=1, old=1)  # type: ignore[call-arg]  # the old name


def arguments_of(name: str) -> dict[str, Any]:
    if name.startswith("translate"):
        return {"model": "a2b", "images": [encoded(image) for image in random_images(1)]}
    return {"model": "dcgan", "seed": 0}


def value_of(chunk: Any) -> Any:
    return chunk.files if hasattr(chunk, "files") else chunk.images.tolist()


@pytest.mark.parametrize(("name", "old"), OLD_NAMES.items())
def test_the_blocking_client_takes_the_old_name_of_format(client: GanClient, name: str, old: str) -> None:
    call, wanted = getattr(client, name), "jpeg" if old == "file_format" else "float32"
    with pytest.warns(DeprecationWarning, match=f"{name}: '{old}' is now 'format'"):
        [chunk] = call(**arguments_of(name), **{old: wanted})
    [expected] = call(**arguments_of(name), format=wanted)
    assert value_of(chunk) == value_of(expected)


@pytest.mark.parametrize(("name", "old"), OLD_NAMES.items())
async def test_the_async_client_takes_the_old_name_of_format(server: FakeServer, name: str, old: str) -> None:
    wanted = "jpeg" if old == "file_format" else "float32"
    async with AsyncGanClient(server.address, timeout_s=20) as client:
        call = getattr(client, name)
        with pytest.warns(DeprecationWarning, match=f"{name}: '{old}' is now 'format'"):
            [chunk] = [chunk async for chunk in call(**arguments_of(name), **{old: wanted})]
        [expected] = [chunk async for chunk in call(**arguments_of(name), format=wanted)]
    assert value_of(chunk) == value_of(expected)
