from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.training.image_pool import ImagePool

BATCHES = st.lists(st.integers(0, 9), max_size=8)  # sizes of batches
SEEDS = st.integers(0, 2**32)


def numbered(first: int, count: int) -> torch.Tensor:
    """`count` images (1, 2, 2) that hold their number."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2)


def numbers(images: torch.Tensor) -> list[int]:
    return [int(value) for value in images[:, 0, 0, 0]] if len(images) else []


@given(capacity=st.integers(0, 12), batches=BATCHES, seed=SEEDS)
def test_an_image_is_shown_late_at_most_once_or_lost_but_never_made_up(
    capacity: int, batches: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    pool = ImagePool(capacity)
    given_so_far = 0
    for count in batches:
        stored = numbers(pool.images)
        batch = numbered(given_so_far, count)
        shown = pool.query(batch)
        given_so_far += count
        assert shown.shape == batch.shape
        late = [number for number in numbers(shown) if number < given_so_far - count]
        assert len(set(late)) == len(late)  # whatever leaves the pool is gone from it
        assert set(numbers(shown)) <= set(stored) | set(numbers(batch))
        assert set(numbers(pool.images)) <= set(stored) | set(numbers(batch))
        assert not set(late) & set(numbers(pool.images))
        assert len(pool) == len(pool.images) == min(capacity, given_so_far)


@given(capacity=st.integers(0, 12), count=st.integers(0, 12), seed=SEEDS)
def test_until_the_pool_is_full_images_come_back_as_they_came(capacity: int, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    state = torch.get_rng_state()
    pool = ImagePool(capacity)
    images = numbered(0, min(count, capacity))
    assert torch.equal(pool.query(images), images)
    assert numbers(pool.images) == numbers(images)
    assert torch.equal(torch.get_rng_state(), state)


@given(batches=BATCHES)
def test_a_pool_of_none_returns_everything_as_it_came(batches: list[int]) -> None:
    pool = ImagePool(0)
    for count in batches:
        assert torch.equal(pool.query(numbered(0, count)), numbered(0, count))
    assert len(pool) == 0


def test_half_of_the_images_shown_are_old_ones_and_all_of_the_pool_is_used() -> None:
    torch.manual_seed(0)
    pool = ImagePool(10)
    pool.query(numbered(0, 10))
    old = 0
    used = set()
    for number in range(10, 2010):
        (shown,) = numbers(pool.query(numbered(number, 1)))
        if shown != number:
            old += 1
            used.add(shown)
    assert 900 < old < 1100
    assert set(range(10)) <= used


@given(before=BATCHES, after=BATCHES, seed=SEEDS)
def test_a_restored_pool_goes_on_bit_exactly(before: list[int], after: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    pool, other = ImagePool(5), ImagePool(5)
    for count in before:
        pool.query(numbered(0, count))
    state, saved = torch.get_rng_state(), pool.images
    expected = [numbers(pool.query(numbered(100, count))) for count in after]
    torch.set_rng_state(state)
    other.restore(saved)
    assert [numbers(other.query(numbered(100, count))) for count in after] == expected
    assert numbers(other.images) == numbers(pool.images)


def test_what_is_stored_and_saved_is_a_copy() -> None:
    pool = ImagePool(2)
    images = numbered(1, 2).clone()
    pool.query(images)
    images.zero_()
    saved = pool.images
    saved.zero_()
    assert numbers(pool.images) == [1, 2]
    pool.restore(saved)
    saved.fill_(9)
    assert numbers(pool.images) == [0, 0]


def test_nothing_that_comes_back_has_a_gradient() -> None:
    pool = ImagePool(2)
    for _ in range(6):
        assert not pool.query(torch.zeros(2, 1, 2, 2, requires_grad=True)).requires_grad
    assert not pool.images.requires_grad
    assert not ImagePool(0).query(torch.zeros(2, 1, 2, 2, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(4, 1, 2, 2), "a pool of 3 images cannot hold 4"),
        (torch.zeros(3, 2, 2), "holds floating-point"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), "holds floating-point"),
        (torch.full((1, 1, 2, 2), torch.nan), "not finite"),
        (torch.full((1, 1, 2, 2), torch.inf), "not finite"),
    ],
)
def test_a_damaged_pool_is_refused_and_leaves_the_old_one(images: torch.Tensor, message: str) -> None:
    pool = ImagePool(3)
    pool.query(numbered(7, 1))
    with pytest.raises(ValueError, match=message):
        pool.restore(images)
    assert numbers(pool.images) == [7]


def test_images_of_another_shape_are_refused() -> None:
    pool = ImagePool(3)
    pool.query(numbered(0, 1))
    with pytest.raises(ValueError, match=r"images are \(3, 2, 2\), the pool's are \(1, 2, 2\)"):
        pool.query(torch.zeros(1, 3, 2, 2))


def test_restored_images_have_the_shape_that_was_announced() -> None:
    pool = ImagePool(3, (1, 2, 2))
    pool.restore(ImagePool(3).images)  # of an empty pool, which knows no shape
    assert len(pool) == 0
    pool.restore(numbered(4, 2))
    assert numbers(pool.images) == [4, 5]
    with pytest.raises(ValueError, match=r"images are \(3, 2, 2\), the pool's are \(1, 2, 2\)"):
        pool.restore(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"images are \(3, 2, 2\), the pool's are \(1, 2, 2\)"):
        ImagePool(3, (1, 2, 2)).query(torch.zeros(1, 3, 2, 2))


def test_a_negative_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is -1"):
        ImagePool(-1)
