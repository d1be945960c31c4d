"""The index law: permutations, shares of hosts, steps of an epoch."""

import threading

import numpy as np
import pytest
from named_errors import raises_naming

from jigclu_jax.data.input.order import EpochOrders, epoch_order, generator, host_positions, steps_per_epoch
from jigclu_jax.errors import UserError


def test_epoch_order_is_the_philox_permutation_of_seed_and_epoch() -> None:
    for seed, epoch, n in ((0, 0, 1), (3, 7, 100), (123456789, 0, 1000)):
        order = epoch_order(seed, epoch, n)
        expected = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)
        np.testing.assert_array_equal(order, expected)
        np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_orders_differ_between_epochs_and_seeds_and_are_uniform() -> None:
    orders = [epoch_order(seed, epoch, 50).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    places = np.array([epoch_order(5, epoch, 10)[0] for epoch in range(2000)])
    counts = np.bincount(places, minlength=10)
    assert np.sum((counts - 200) ** 2 / 200) < 30  # chi-squared with 9 degrees of freedom: p < 0.0005


def test_negative_seeds_work() -> None:
    np.testing.assert_array_equal(np.sort(epoch_order(-1, 0, 20)), np.arange(20))
    assert epoch_order(-1, 0, 20).tolist() != epoch_order(1, 0, 20).tolist()


def test_streams_do_not_overlap() -> None:
    draws = [tuple(generator(0, 0, index, stream).random(4)) for index in range(5) for stream in (0, 1, 2)]
    flat = [value for draw in draws for value in draw]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize(("n", "batch", "dropped", "kept"), [(10, 5, 2, 2), (11, 5, 2, 3), (5, 5, 1, 1), (9, 1, 9, 9)])
def test_steps_per_epoch(n: int, batch: int, dropped: int, kept: int) -> None:
    assert steps_per_epoch(n, batch) == dropped
    assert steps_per_epoch(n, batch, drop_last=False) == kept


def test_batch_that_cannot_be_filled_is_refused_with_the_size_that_works() -> None:
    with raises_naming("batch_size=256", "100"):
        steps_per_epoch(100, 256)
    assert steps_per_epoch(100, 256, drop_last=False) == 1
    with pytest.raises(UserError):
        steps_per_epoch(0, 1)


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_shares_of_hosts_put_together_are_the_global_batch(hosts: int) -> None:
    for step in range(11):
        shares = [host_positions(step, 5, 8, host, hosts) for host in range(hosts)]
        assert {epoch for epoch, _ in shares} == {step // 5}
        np.testing.assert_array_equal(np.concatenate([positions for _, positions in shares]), step % 5 * 8 + np.arange(8))


def test_kept_orders_are_the_law_and_may_be_asked_for_by_many_threads() -> None:
    orders = EpochOrders(4, 30)
    wrong: list[int] = []

    def ask(first: int) -> None:
        wrong.extend(epoch for epoch in range(first, first + 20) if orders(epoch).tolist() != epoch_order(4, epoch, 30).tolist())

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
