"""The limits of one replica with 16 places, and the turns of its users."""

import asyncio
import gc
import pickle
import tracemalloc
from collections.abc import Iterable

import pytest

from registry.errors import RateLimited
from serve_app.model_server.admission import COMPANY_S, Ticket
from tests.support.admissions import Clock, admission, admit, num_running, settle, started

NUM_VISITORS = 300


def test_generations_over_the_limit_are_refused_until_one_ends() -> None:
    places = admission(max_generations=2)
    first, _ = admit(places, "alice", 1, 10), admit(places, "alice", 1, 10)
    with pytest.raises(RateLimited) as refused:
        admit(places, "alice", 1, 10)
    assert refused.value.retry_after_s >= 1
    admit(places, "bob", 1, 10)
    first.release()
    admit(places, "alice", 1, 10)


def test_each_sample_is_a_generation() -> None:
    places = admission(max_generations=4)
    admit(places, "alice", 3, 10)
    with pytest.raises(RateLimited):
        admit(places, "alice", 2, 10)
    admit(places, "alice", 1, 10)


def test_tokens_over_the_limit_are_refused() -> None:
    places = admission(max_tokens=100)
    admit(places, "alice", 1, 60)
    with pytest.raises(RateLimited):
        admit(places, "alice", 1, 41)
    admit(places, "alice", 1, 40)


@pytest.mark.parametrize(("num_samples", "num_tokens"), [(5, 1), (1, 101)])
def test_request_over_a_limit_by_itself_is_let_in_alone(num_samples: int, num_tokens: int) -> None:
    places = admission(max_generations=4, max_tokens=100)
    alone = admit(places, "alice", num_samples, num_tokens)
    with pytest.raises(RateLimited):
        admit(places, "alice", 1, 1)
    alone.release()
    other = admit(places, "alice", 1, 1)
    with pytest.raises(RateLimited):
        admit(places, "alice", num_samples, num_tokens)
    other.release()


def test_prompts_of_one_request_are_admitted_all_or_none() -> None:
    places = admission(max_generations=8)
    with pytest.raises(RateLimited) as refused:  # alone, and yet: its prompts can be asked for one by one
        places.admit("alice", 3, num_prompts=3)
    assert "9 generations" in refused.value.message
    assert places.num_generations("alice") == places.num_all_generations == 0
    tickets = places.admit("alice", 4, num_prompts=2)
    assert (len(tickets), places.num_generations("alice")) == (2, 8)
    with pytest.raises(RateLimited):
        places.admit("alice", 1)
    tickets[0].release()
    places.admit("alice", 4)


def test_tokens_of_a_prompt_are_claimed_once() -> None:
    places = admission(max_tokens=100)
    places.admit("alice", 1)[0].claim(40)
    (ticket,) = places.admit("alice", 1)
    ticket.claim(60)
    ticket.claim(60)
    with pytest.raises(RateLimited):
        ticket.claim(61)
    ticket.release()
    places.admit("alice", 1)[0].claim(60)


@pytest.mark.parametrize(("waiting", "retry_after_s"), [(8, 1), (64, 4), (4096, 60)])
def test_more_who_wait_are_to_come_back_later(waiting: int, retry_after_s: int) -> None:
    places = admission(num_places=16, max_generations=waiting)
    places.admit("greedy", waiting)
    with pytest.raises(RateLimited) as refused:
        places.admit("greedy", 1)
    assert refused.value.retry_after_s == retry_after_s


def test_release_counts_once() -> None:
    places = admission(max_generations=2)
    first = admit(places, "alice", 1, 10)
    admit(places, "alice", 1, 10)
    first.release()
    first.release()
    assert places.num_generations("alice") == 1


async def test_greedy_user_alone_leaves_places_free_for_the_next_one() -> None:
    places = admission()
    greedy = await started(places, "greedy", 200)
    assert num_running(greedy) == 12
    light = await started(places, "light", 1)
    assert num_running(light) == 1


async def replaced(requests: "list[tuple[Ticket, asyncio.Task[None]]]", count: int) -> None:
    """End some of a user's generations, so that generations that wait may take their places."""
    for _ in range(count):
        next(ticket for ticket, _ in requests if ticket.is_running).release()
        requests[:] = [(ticket, task) for ticket, task in requests if not ticket.is_released]
        await settle()


async def test_greedy_user_in_company_has_fewer_places_until_it_is_gone_for_a_while() -> None:
    clock = Clock()
    places = admission(clock=clock)
    greedy = await started(places, "greedy", 200)
    ((light, _),) = await started(places, "light", 1)
    light.release()
    await replaced(greedy, 20)
    assert num_running(greedy) == 5
    clock.now_s = COMPANY_S - 1
    await replaced(greedy, 5)
    assert num_running(greedy) == 5
    clock.now_s = COMPANY_S
    await replaced(greedy, 1)
    assert num_running(greedy) == 12


async def test_company_that_still_generates_is_not_gone() -> None:
    clock = Clock()
    places = admission(clock=clock)
    await started(places, "light", 1)
    clock.now_s = 10 * COMPANY_S
    assert num_running(await started(places, "greedy", 200)) == 5


async def test_several_greedy_users_leave_a_place_free() -> None:
    places = admission()
    users = [await started(places, f"greedy-{number}", 100) for number in range(3)]
    for _ in range(300):  # the first user's share shrinks as its generations end
        for requests in users:
            running = next((ticket for ticket, _ in requests if ticket.is_running), None)
            if running is not None:
                running.release()
                requests[:] = [(t, task) for t, task in requests if t is not running]
                requests += await started(places, running.user, 1)
    shares = [num_running(requests) for requests in users]
    assert sum(shares) < 16
    assert max(shares) - min(shares) <= 2


async def test_requests_of_a_user_start_in_order_as_places_get_free() -> None:
    places = admission(num_places=2)
    requests = await started(places, "alice", 4)
    assert [ticket.is_running for ticket, _ in requests] == [True, False, False, False]
    for position in range(3):
        requests[position][0].release()
        await settle()
        assert [task.done() for _, task in requests] == [n <= position + 1 for n in range(4)]


async def test_who_has_least_running_is_first() -> None:
    places = admission()
    first = await started(places, "other", 1)
    greedy = await started(places, "greedy", 10)
    other = first + await started(places, "other", 4)
    assert (num_running(greedy), num_running(other)) == (5, 3)
    greedy[0][0].release()
    await settle()
    assert (num_running(greedy[1:]), num_running(other)) == (4, 4)


async def test_waiting_request_that_is_given_up_leaves_the_queue() -> None:
    places = admission(num_places=2)
    (first, _), (second, waiting), (_, last) = await started(places, "alice", 3)
    waiting.cancel()
    await settle()
    second.release()
    first.release()
    await settle()
    assert last.done()
    assert places.num_generations("alice") == 1


async def test_who_waits_for_a_turn_is_cancelled_by_the_release() -> None:
    places = admission(num_places=2)
    (_, _), (second, waiting) = await started(places, "alice", 2)
    second.release()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_turn_that_comes_as_the_request_is_given_up_goes_to_the_next() -> None:
    places = admission(num_places=2)
    (first, _), (second, waiting), (third, last) = await started(places, "alice", 3)
    first.release()
    assert second.is_running
    waiting.cancel()
    second.release()
    await settle()
    assert third.is_running and last.done()


async def test_request_with_more_samples_than_places_runs() -> None:
    (request, task), (_, waiting) = await started(admission(), "alice", 2, num_samples=64)
    assert task.done() and not waiting.done()
    request.release()
    await settle()
    assert waiting.done()


async def test_long_prompts_of_a_user_are_read_one_after_the_other() -> None:
    places = admission()
    long = await started(places, "greedy", 3, num_prompt_tokens=400)
    assert [ticket.is_running for ticket, _ in long] == [True, False, False]
    long[0][0].prompt_is_read()
    long[0][0].prompt_is_read()
    await settle()
    assert [ticket.is_running for ticket, _ in long] == [True, True, False]
    long[1][0].release()
    await settle()
    assert long[2][0].is_running


async def test_prompts_that_fit_in_a_step_are_read_together() -> None:
    places = admission()
    short = await started(places, "greedy", 8, num_prompt_tokens=100)
    assert num_running(short) == 4


async def test_who_waits_for_prompts_of_their_own_does_not_hold_others_up() -> None:
    places = admission()
    reading = await started(places, "reading", 2, num_prompt_tokens=2000)
    busy = await started(places, "busy", 20)
    assert (num_running(reading), num_running(busy)) == (1, 5)
    busy[0][0].release()
    await settle()
    assert num_running(busy[1:]) == 5
    assert num_running(await started(places, "light", 1, num_prompt_tokens=2000)) == 1


async def test_users_that_are_gone_take_no_memory_and_no_place() -> None:
    clock = Clock()
    places = admission(num_places=3, clock=clock)

    async def visit(users: Iterable[str]) -> None:
        for user in users:
            for ticket, _ in await started(places, user, 3):
                ticket.release()
            clock.now_s += COMPANY_S
        await settle()

    await visit(f"early-{number}" for number in range(10))
    tracemalloc.start()
    try:
        await visit(f"late-{number}" for number in range(NUM_VISITORS))
        places.admit("last", 1)[0].release()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < NUM_VISITORS * 20, "a name alone has more bytes"
    clock.now_s += COMPANY_S
    assert num_running(await started(places, "next", 3)) == 2


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(RateLimited("too many", retry_after_s=7)))
    assert (error.message, error.param, error.retry_after_s) == ("too many", None, 7)


def test_changed_limits_keep_what_was_admitted() -> None:
    places = admission(max_generations=2, max_tokens=100)
    first, second = admit(places, "alice", 1, 40), admit(places, "alice", 1, 40)
    places.set_limits(1, 100, 0.5)
    with pytest.raises(RateLimited):
        admit(places, "alice", 1, 10)
    assert not first.is_released and not second.is_released
    places.set_limits(3, 100, 0.5)
    admit(places, "alice", 1, 10).release()
    with pytest.raises(RateLimited):
        admit(places, "alice", 1, 30)
    places.set_limits(3, 110, 0.5)
    admit(places, "alice", 1, 30)


async def test_larger_share_starts_what_waits() -> None:
    places = admission()
    await started(places, "other", 1)
    greedy = await started(places, "greedy", 16)
    before = num_running(greedy)
    places.set_limits(1000, 10**9, 3)
    await settle()
    assert num_running(greedy) > before
