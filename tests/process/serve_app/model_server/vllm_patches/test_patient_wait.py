"""vLLM's processes wait for each other, on vLLM's real queue in shared memory."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points

import pytest
from vllm.distributed.device_communicators import shm_broadcast
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue, SpinCondition

from serve_app.model_server.vllm_patches.patient_wait import ALERT_S, NAPPING_S, patient_wait, register

PAUSES_S = (0, NAPPING_S, 5 * NAPPING_S, 20 * NAPPING_S)
"""Between pairs of messages: what a reader naps over, and what it sleeps over."""
NUM_PAIRS = 40


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpinCondition, "wait", SpinCondition.wait)
    monkeypatch.setattr(SpinCondition.__init__, "__defaults__", SpinCondition.__init__.__defaults__)
    register()


@pytest.fixture
def queue(patient: None) -> Iterator[tuple[MessageQueue, MessageQueue]]:
    """A queue's writer and its reader."""
    writer = MessageQueue(n_reader=1, n_local_reader=1)
    reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
    with ThreadPoolExecutor(1) as pool:
        ready = pool.submit(writer.wait_until_ready)
        reader.wait_until_ready()
        ready.result()
    yield writer, reader


def test_pairs_of_messages_arrive_and_no_reader_loops(
    queue: tuple[MessageQueue, MessageQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = queue
    loops: list[int] = []
    monkeypatch.setattr(shm_broadcast, "sched_yield", lambda: loops.append(threading.get_ident()))
    sent = [(kind, number) for number in range(NUM_PAIRS) for kind in ("execute", "sample")]

    def read() -> tuple[int, list[object]]:
        return threading.get_ident(), [reader.dequeue(timeout=60) for _ in sent]

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for number in range(NUM_PAIRS):
            time.sleep(PAUSES_S[number % len(PAUSES_S)])
            writer.enqueue(sent[2 * number])
            writer.enqueue(sent[2 * number + 1])
        thread, found = reading.result()
    assert found == sent
    assert thread not in loops


def test_a_message_that_nobody_told_of_is_found(
    queue: tuple[MessageQueue, MessageQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = queue
    tell = writer._spin_condition.notify
    monkeypatch.setattr(writer._spin_condition, "notify", lambda: None)
    reader._spin_condition.last_read = time.monotonic() - ALERT_S / 4
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(reader.dequeue)
        writer.enqueue("sample")
        try:
            assert reading.result(timeout=30) == "sample"
        finally:
            tell()


def test_is_put_in_vllms_place_by_a_plugin(patient: None) -> None:
    (plugin,) = [p for p in entry_points(group="vllm.general_plugins") if p.name == "tiger_patient_wait"]
    assert plugin.load() is register
    assert SpinCondition.wait is patient_wait
