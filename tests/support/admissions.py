"""An admission with 16 places, and requests that wait for their turn or are past it."""

import asyncio

from registry.errors import RateLimited
from serve_app.model_server.admission import Admission, Ticket


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def admission(
    num_places: int = 16,
    max_generations: int = 1000,
    max_tokens: int = 10**9,
    step_tokens: int = 400,
    clock: Clock | None = None,
) -> Admission:
    return Admission(num_places, max_generations, max_tokens, step_tokens, 0.5, clock or Clock())


def admit(places: Admission, user: str, num_samples: int, num_tokens: int) -> Ticket:
    """A ticket for one prompt. A refused prompt gives its place back."""
    (ticket,) = places.admit(user, num_samples)
    try:
        ticket.claim(num_tokens)
    except RateLimited:
        ticket.release()
        raise
    return ticket


async def started(
    places: Admission, user: str, count: int, num_samples: int = 1, num_prompt_tokens: int = 5
) -> list[tuple[Ticket, "asyncio.Task[None]"]]:
    """The tickets of `count` requests of a user, each with a task that waits for its turn or is past it."""
    tickets = [admit(places, user, num_samples, 10) for _ in range(count)]
    for ticket in tickets:
        ticket.num_prompt_tokens = num_prompt_tokens
    tasks = [(ticket, asyncio.ensure_future(ticket.turn())) for ticket in tickets]
    await asyncio.sleep(0)
    return tasks


def num_running(requests: "list[tuple[Ticket, asyncio.Task[None]]]") -> int:
    return sum(ticket.is_running for ticket, _ in requests)


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
