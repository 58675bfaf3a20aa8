"""Measures how a long history of trainings slows the start of an instance and the listing of jobs."""

import asyncio
import json
import statistics
import time
from itertools import cycle, islice
from typing import Any

from bench.control.accounts import Accounts, other_user
from bench.control.bulk import write_all
from bench.control.calls import call, session, timed
from bench.control.ground import Ground
from bench.control.times import against, in_ms, ratio_p50
from bench.temporary_instance import quiet
from registry.jobs import JobIds, Jobs
from registry.records import (
    Group,
    Hyperparameters,
    JobRecord,
    JobRequest,
    JobStatus,
    Message,
    RewardedResponse,
    generate_uid,
    utc_now,
)

NUM_STARTS = 3
NUM_FEW = 10
SHARE_OF_MANY = 10
FIRST_PAGE = f"/v1/jobs?limit={NUM_FEW}"
"""The request for the first page of jobs. The page has the same number of jobs for both users."""
NUM_WARM = 5
NUM_PAGES = 200
STEPS = 5
METRICS = {"loss": 0.01, "kl": 0.5, "clip_ratio": 0.1, "grad_norm": 1.0, "learning_rate": 1e-5}
EVENTS = [
    json.dumps(event)
    for event in (
        {"type": "info", "message": "Queued"},
        *({"type": "progress", "step": step, "steps": STEPS, **METRICS} for step in range(1, STEPS + 1)),
        {"type": "stop", "stop_reason": "completed", "revision": 1, "metrics": METRICS},
    )
]
REQUEST = JobRequest(
    groups=(
        Group(
            messages=(Message(role="user", content="Say a colour."),),
            responses=(
                RewardedResponse(content="Blue.", reward=1.0),
                RewardedResponse(content="What?", reward=0.0),
            ),
        ),
    ),
    hyperparameters=Hyperparameters(learning_rate=1e-5, learning_steps=STEPS, beta=0.04, epsilon=0.2),
)


def history(ground: Ground, num_users: int, num_jobs: int) -> dict[str, Any]:
    """Starts and listings without and with a history.

    One user has a tenth of the jobs, one has ten jobs, and the others share the rest. The history must be
    empty before. Every start begins with nothing running, not even storage, and with the same users.
    """
    empty_s = [_restart(ground, "empty history") for _ in range(NUM_STARTS)]
    writing_s = _write_jobs(ground.accounts(), num_users, num_jobs)
    full_s = [_restart(ground, f"{num_jobs} jobs") for _ in range(NUM_STARTS)]
    ground.up()  # also the bare handler
    return {
        "jobs": num_jobs,
        "written_per_s": round(num_jobs / writing_s, 1),
        "up_empty_s": [round(seconds, 1) for seconds in empty_s],
        "up_full_s": [round(seconds, 1) for seconds in full_s],
        "ratio_up": round(statistics.median(full_s) / statistics.median(empty_s), 2),
        "first_page": asyncio.run(_first_pages(ground)),
    }


def _restart(ground: Ground, name: str) -> float:
    """Stop and start the instance; returns the seconds of `up`."""
    ground.instance.down(quiet)
    start = time.perf_counter()
    ground.instance.up(quiet)
    seconds = time.perf_counter() - start
    print(f"up, {name}: {seconds:.1f} s", flush=True)
    return seconds


def _write_jobs(accounts: Accounts, num_users: int, num_jobs: int) -> float:
    """Write complete finished jobs, with ids from the oldest to the newest; returns the seconds it took."""
    num_many = num_jobs // SHARE_OF_MANY
    others = cycle(other_user(number) for number in range(num_users))
    owners = ["few"] * NUM_FEW + ["many"] * num_many
    owners += islice(others, max(num_jobs - len(owners), 0))
    ids, jobs, request = JobIds(), Jobs(accounts.store), REQUEST.model_dump_json().encode()

    def write(user: str) -> None:
        record = _finished(ids.generate(), user, accounts.base.id)
        # `Jobs.accept` is not used: it would also write a marker, which would have to be deleted again.
        accounts.store.put(f"jobs/{user}/{record.id}/request.json", request)
        jobs.save_events(user, record.id, EVENTS)
        jobs.save(record)

    return write_all("finished jobs", owners, write)


def _finished(job_id: str, user: str, base_model: str) -> JobRecord:
    now = utc_now()
    return JobRecord(
        id=job_id,
        user=user,
        uid=generate_uid(),
        model="model-0",
        base_model=base_model,
        status=JobStatus.SUCCEEDED,
        created=now,
        started=now,
        finished=now,
        parent_revision=0,
        revision=1,
        attempt=1,
        step=STEPS,
        steps=STEPS,
        metrics=METRICS,
        trained_tokens=100,
        duration_s=6.0,
    )


async def _first_pages(ground: Ground) -> dict[str, Any]:
    """Times of FIRST_PAGE for the users with few and with many jobs, and of the bare handler.

    The bare handler answers with the bytes of the first user's page.
    """
    accounts = ground.accounts()
    keys = {user: accounts.create_key(user) for user in ("few", "many")}
    times_s: dict[str, list[float]] = {user: [] for user in keys}
    bare_s: list[float] = []
    async with session(ground.url) as http:
        page = await call(http, "GET", FIRST_PAGE, keys["few"])
        if len(json.loads(page)) != NUM_FEW:
            raise RuntimeError(f"the page was to have {NUM_FEW} jobs: {page[:500].decode()}")
        bare = ground.bare("jobs", page)
        for _ in range(NUM_WARM + NUM_PAGES):
            for user, key in keys.items():
                times_s[user].append(await timed(call(http, "GET", FIRST_PAGE, key)))
            bare_s.append(await timed(call(http, "GET", bare)))
    few_s, many_s = (times_s[user][NUM_WARM:] for user in ("few", "many"))
    return {
        "few": against(few_s, bare_s[NUM_WARM:]),
        "many": in_ms(many_s),
        "ratio_p50_many_to_few": ratio_p50(many_s, few_s),
    }
