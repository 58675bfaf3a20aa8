"""Measures the console in a real Chromium: the first paint, and frames while an answer is written.

    python -m bench.console        (make bench-console)

    first paint   first visits of the sign-in page, each in a new browser context, from loopback; in turns
                  with those of a page that is one line of HTML
    form          the same visits, until a key can be typed
    frames        frames per second of the page Talk while it writes 200 tokens a second, and while it rests

The console's files and headers are those of the ingress. A small program stands for the API behind them, so
that the stream has the same rate on every machine. Each pair of idle and writing seconds is on the same page.
"""

import argparse
import asyncio
import json
import statistics
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, sync_playwright
from starlette.responses import HTMLResponse, StreamingResponse

from bench.machine import describe
from serve_app.api.routes import console
from tests.support.browser import ARGUMENTS, installed_chromium

TOKENS_PER_S = 200
WRITING_S = 10
IDLE_S = 5
MODEL = {
    "name": "Base",
    "id": "base",
    "description": "",
    "read_only": True,
    "revision": 0,
    "last_modified": "2026-01-01T00:00:00.000Z",
    "default_model": True,
    "temperature": 0.7,
    "top_p": 0.95,
    "learning_rate": 1e-5,
    "learning_steps": 5,
    "beta": 0.04,
    "epsilon": 0.2,
}
BARE = "<!doctype html><title>bare</title><label>API key <input></label>"
HAS_FORM = "() => document.querySelector('input') && performance.now()"
FIRST_PAINT = """() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null"""
COUNT_FRAMES = """seconds => new Promise(done => {
    const times = [];
    const frame = now => {
        times.push(now);
        if (now - times[0] < seconds * 1000) return requestAnimationFrame(frame);
        const gaps = times.slice(1).map((time, i) => time - times[i]);
        done({frames_per_s: (times.length - 1) * 1000 / (now - times[0]), longest_ms: Math.max(...gaps)});
    };
    requestAnimationFrame(frame);
})"""


def application() -> FastAPI:
    """The console's routes, and an API of which only what the page Talk asks for exists."""
    app = FastAPI()
    app.include_router(console.router)

    @app.get("/bare")
    async def bare() -> HTMLResponse:
        return HTMLResponse(BARE)

    @app.get("/v1/models")
    async def models() -> Any:
        return [MODEL]

    @app.get("/v1/me")
    async def me() -> Any:
        return {"user": "me", "current_key": "key-0", "is_operator": False}

    @app.post("/v1/generate_response")
    async def generate_response() -> StreamingResponse:
        return StreamingResponse(answer(), media_type="application/x-ndjson")

    return app


async def answer() -> AsyncIterator[str]:
    """An answer of `TOKENS_PER_S`, which goes on for longer than the frames are counted."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    number = TOKENS_PER_S * (WRITING_S + 5)
    for token in range(number):
        await asyncio.sleep(max(0.0, start + token / TOKENS_PER_S - loop.time()))
        yield json.dumps({"type": "delta", "delta": f" word{token % 97}" + "\n" * (token % 50 == 49)}) + "\n"
    usage = {"input_tokens": 1, "output_tokens": number, "duration": 15.0, "duration_ms": 15_000}
    yield json.dumps({"type": "stop", "stop_reason": "end_turn", "revision": 0, "usage": usage}) + "\n"


@contextmanager
def service() -> Iterator[str]:
    """The address of a server of `application` on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(application(), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def visit_ms(browser: Browser, url: str) -> dict[str, float]:
    """The times from the beginning of a first visit to its first content and to its form, in milliseconds."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url, wait_until="commit")
    form = page.wait_for_function(HAS_FORM).json_value()
    painted = page.wait_for_function(FIRST_PAINT).json_value()
    context.close()
    return {"first_paint_ms": float(painted), "form_ms": float(form)}


def visits_ms(browser: Browser, url: str, number: int) -> dict[str, Any]:
    """The medians of both pages, in turns, and the ratios of the console's to the bare page's."""
    turns = [(visit_ms(browser, f"{url}/bare"), visit_ms(browser, url)) for _ in range(number)]
    times: dict[str, Any] = {}
    for name in ("first_paint_ms", "form_ms"):
        bare, shown = (statistics.median(visit[name] for visit in side) for side in zip(*turns, strict=True))
        lowest, highest = (round(choose(turn[1][name] for turn in turns)) for choose in (min, max))
        times[name] = {
            "bare": round(bare),
            "console": round(shown),
            "console_lowest_and_highest": [lowest, highest],
            "ratio": round(shown / bare, 1),
        }
    return times


def frames(page: Page) -> dict[str, Any]:
    """Frames of the page Talk while nothing happens, and while it writes an answer."""
    idle = page.evaluate(COUNT_FRAMES, IDLE_S)
    page.get_by_label("Your message").fill("Count.")
    page.keyboard.press("Enter")
    page.get_by_text("word1 ").first.wait_for()
    writing = page.evaluate(COUNT_FRAMES, WRITING_S)
    page.get_by_role("button", name="Stop").click()
    return {"idle": idle, "writing": writing, "ratio": writing["frames_per_s"] / idle["frames_per_s"]}


def measure(browser: Browser, url: str, visits: int, runs: int) -> dict[str, Any]:
    times = visits_ms(browser, url, visits)
    page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
    page.goto(url)
    page.get_by_label("API key").fill("tiger_key")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation").get_by_role("link", name="Talk").click()
    page.get_by_label("Your message").wait_for()
    return {
        **times,
        "talk_at_200_tokens_per_s": [frames(page) for _ in range(runs)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--visits", type=int, default=15, help="first visits")
    parser.add_argument("--runs", type=int, default=3, help="pairs of idle and writing")
    parser.add_argument("--output", type=Path, default=Path("bench/results/console.json"))
    options = parser.parse_args()
    report = {"machine": describe()}
    with service() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed_chromium(), args=ARGUMENTS)
        report |= measure(browser, url, options.visits, options.runs)
        browser.close()
    print(json.dumps(report, indent=2))
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
