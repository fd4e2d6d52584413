from __future__ import annotations

import simpy

from benchmarks.scaling.thread import Steps, TurnThread


def test_a_turn_takes_all_that_came_during_the_one_before_up_to_the_limit() -> None:
    environment = simpy.Environment()
    turns = []

    def turn(items: list[int], is_woken: bool) -> Steps:
        turns.append((items, is_woken))
        yield environment.timeout(1)

    thread = TurnThread(environment, turn, most=2)

    def arrivals() -> Steps:
        for number in range(4):
            thread.put(number)
            yield environment.timeout(0.1)
        yield environment.timeout(10)
        thread.put(4)

    environment.process(arrivals())
    environment.run(until=20)
    assert turns == [([0], True), ([1, 2], False), ([3], False), ([4], True)]
    assert thread.busy_s == 4
