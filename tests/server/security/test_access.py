from __future__ import annotations

from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2 as pb

from server.errors import NotAllowed, ServerError, Unauthenticated
from server.security.access import ADMIN_METHODS, CONTROL_METHODS, Access
from server.security.tokens import TokenFile

USER, ADMIN = "a-user", "an-admin"


def token_file(folder: Path, token: str) -> TokenFile:
    (folder / token).write_text(token)
    return TokenFile("--token-file", folder / token)


def access(folder: Path, *, tokens: bool = True, admin: bool = True, control_at: str = "") -> Access:
    return Access(
        token_file(folder, USER) if tokens else None, token_file(folder, ADMIN) if admin else None, control_at
    )


def refusal(access: Access, method: str, authorization: str | None) -> type[ServerError] | None:
    metadata: list[tuple[str, str | bytes]] = [("x-other", b"1")]
    if authorization is not None:
        metadata.append(("authorization", authorization))
    try:
        access.check(method, metadata)
    except ServerError as error:
        return type(error)
    return None


def test_the_control_plane_of_the_open_inference_protocol_is_protected() -> None:
    assert CONTROL_METHODS < ADMIN_METHODS
    methods = set(pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name)
    assert {method for method in methods if method.startswith("RepositoryModel")} == methods & CONTROL_METHODS
    assert {method for method in methods if "Repository" in method or "Statistics" in method} == methods & ADMIN_METHODS


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (None, Unauthenticated),
        ("", Unauthenticated),
        (USER, Unauthenticated),
        (f"Basic {USER}", Unauthenticated),
        ("Bearer ", Unauthenticated),
        ("Bearer other", Unauthenticated),
        (f"Bearer {USER}x", Unauthenticated),
        (f"Bearer {USER}", None),
        (f"bearer  {USER}", None),
        (f"Bearer {ADMIN}", None),
    ],
)
def test_every_method_needs_a_token(tmp_path: Path, sent: str | None, expected: type[ServerError] | None) -> None:
    assert refusal(access(tmp_path), "ModelInfer", sent) is expected


@pytest.mark.parametrize("method", sorted(ADMIN_METHODS))
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (None, Unauthenticated),
        ("Bearer other", Unauthenticated),
        (f"Bearer {USER}", NotAllowed),
        (f"Bearer {ADMIN}", None),
    ],
)
def test_the_control_plane_needs_an_admin_token(
    tmp_path: Path, method: str, sent: str | None, expected: type[ServerError] | None
) -> None:
    assert refusal(access(tmp_path), method, sent) is expected


def test_without_a_token_file_only_the_control_plane_needs_a_token(tmp_path: Path) -> None:
    only_admin = access(tmp_path, tokens=False)
    assert refusal(only_admin, "ModelInfer", None) is None
    assert refusal(only_admin, "ModelInfer", "Bearer other") is None
    assert refusal(only_admin, "RepositoryModelLoad", None) is NotAllowed
    assert refusal(only_admin, "RepositoryModelLoad", f"Bearer {ADMIN}") is None


def test_without_an_admin_token_file_a_token_is_enough(tmp_path: Path) -> None:
    assert refusal(access(tmp_path, admin=False), "RepositoryModelLoad", f"Bearer {USER}") is None


def test_what_changes_models_is_refused_where_another_address_answers_it() -> None:
    elsewhere = Access(control_at="127.0.0.1:9000")
    for method in CONTROL_METHODS:
        with pytest.raises(NotAllowed, match=rf"^{method} is answered on the admin address .*127\.0\.0\.1:9000"):
            elsewhere.check(method, None)
    for method in {"ModelInfer", *ADMIN_METHODS} - CONTROL_METHODS:
        elsewhere.check(method, None)


def test_a_stranger_does_not_learn_the_admin_address(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        access(tmp_path, control_at="127.0.0.1:9000").check("RepositoryModelLoad", None)
