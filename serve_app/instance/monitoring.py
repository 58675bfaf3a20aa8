"""Runs Prometheus and Grafana for one instance, if its operator asks for them and they are installed.

    prepare   chooses their ports, before Ray starts: Ray's dashboard has to know them
    ensure    starts those that do not run
    stop      ends them; their data stay

Both listen on loopback and ask for nothing: they have numbers of the machine, and no names of users or texts.
They are aids. If one of them cannot be started, the instance goes on without it, and `tiger up` says so.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from serve_app.instance import ray_head
from serve_app.instance.monitoring_files import MonitoringFiles
from serve_app.instance.ports import LOOPBACK, free_ports, is_free
from serve_app.instance.processes import MARKER, Report, start_process, stop_process, wait_until
from serve_app.instance.state import MonitoringProgram, StateFile

START_TIMEOUT_S = 60
STOP_GRACE_S = 10
RETENTION = "15d"


@dataclass(frozen=True)
class Program:
    """A program of others. `commands` are the names under which it may be installed."""

    name: str
    commands: tuple[str, ...]
    health_path: str
    ray_variable: str
    remedy: str

    def found(self, search_path: str) -> str | None:
        """Returns the path of the program, or None if it is not installed."""
        return next(filter(None, (shutil.which(each, path=search_path) for each in self.commands)), None)


PROMETHEUS = Program(
    "Prometheus",
    ("prometheus",),
    "/-/ready",
    "RAY_PROMETHEUS_HOST",
    "Debian has it as the package `prometheus`",
)
GRAFANA = Program(
    "Grafana",
    ("grafana", "grafana-server"),
    "/api/health",
    "RAY_GRAFANA_HOST",
    "Debian does not have it; https://grafana.com/docs has packages",
)
PROGRAMS = (PROMETHEUS, GRAFANA)


class Monitoring:
    """The monitoring of one instance. `is_wanted` None: as the operator chose the last time."""

    def __init__(
        self,
        home: Path,
        remembered: StateFile,
        dashboard_port: int,
        is_wanted: bool | None = None,
        search_path: str | None = None,
    ) -> None:
        self._home = home
        self._remembered = remembered
        self._dashboard_url = f"http://{LOOPBACK}:{dashboard_port}"
        self._is_wanted = is_wanted
        self._search_path = search_path or os.environ.get("PATH", os.defpath)
        self._is_news_for_ray = False

    @property
    def is_on(self) -> bool:
        return self._remembered.read().has_monitoring if self._is_wanted is None else self._is_wanted

    @property
    def directory(self) -> Path:
        return self._home / "monitoring"

    @property
    def _known(self) -> dict[str, MonitoringProgram]:
        return self._remembered.read().monitoring

    def url(self, program: Program) -> str:
        return f"http://{LOOPBACK}:{self._known[program.name].port}"

    def log(self, program: Program) -> Path:
        return self.directory / f"{program.name.lower()}.log"

    def is_running(self, program: Program) -> bool:
        known = self._known.get(program.name)
        return known is not None and known.process is not None and known.process.is_alive

    def prepare(self, is_ray_running: bool) -> None:
        """Remembers the choice and chooses ports. Ray, if it runs already, does not learn of new ports."""
        self._remembered.update(has_monitoring=self.is_on)
        if not self.is_on:
            return self.stop()
        for program in PROGRAMS:
            known = self._known.get(program.name)
            if known is None or not (self.is_running(program) or is_free(known.port)):
                self._remember(program, MonitoringProgram(port=free_ports(1)[0]))
                self._is_news_for_ray = is_ray_running

    def environment(self) -> dict[str, str]:
        """Returns the variables by which Ray's dashboard finds the programs that are installed."""
        if not self.is_on:
            return {}
        return {
            program.ray_variable: self.url(program)
            for program in PROGRAMS
            if program.name in self._known and program.found(self._search_path)
        }

    def ensure(self, token_path: Path, report: Report) -> None:
        """Starts the programs that do not run, and reports what is missing. It raises no error of theirs."""
        if not self.is_on:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ray_dashboards = ray_head.session_logs(self._home).parent / "metrics" / "grafana" / "dashboards"
        files = MonitoringFiles(self.directory, self._dashboard_url, token_path, ray_dashboards)
        files.write(*(self._known[program.name].port for program in PROGRAMS))
        for program in PROGRAMS:
            report(f"monitoring: {self._ensured(program, files)}")
        if self._is_news_for_ray and self.urls():
            report("monitoring: Ray's own dashboard shows it after the next `tiger down` and `tiger up`")

    def stop(self) -> None:
        for program in PROGRAMS:
            if (known := self._known.get(program.name)) is not None:
                stop_process(known.process, STOP_GRACE_S)
                self._remember(program, known.model_copy(update={"process": None}))

    def urls(self) -> Mapping[str, str]:
        """Returns the URLs of the programs that run, by their names."""
        return {program.name: self.url(program) for program in PROGRAMS if self.is_running(program)}

    def states(self) -> Mapping[str, str]:
        """Returns the state of each program, by its name. It is empty if there is no monitoring."""
        if not self.is_on:
            return {}
        return {
            program.name: f"running at {self.url(program)}"
            if self.is_running(program)
            else "stopped"
            if program.found(self._search_path)
            else "not installed"
            for program in PROGRAMS
        }

    def _ensured(self, program: Program, files: MonitoringFiles) -> str:
        path = program.found(self._search_path)
        if path is None:
            return f"{program.name} is not installed: {program.remedy}"
        if self.is_running(program) and self._answers(program):
            return f"{program.name} running at {self.url(program)}"
        known = self._known[program.name]
        stop_process(known.process, STOP_GRACE_S)
        environment = {MARKER: str(self._home), "PATH": self._search_path}
        command = self._command(program, path, files)
        process = start_process(command, environment, self.log(program))
        self._remember(program, MonitoringProgram(port=known.port, process=process))
        wait_until(lambda: not process.is_alive or self._answers(program), START_TIMEOUT_S)
        if not self._answers(program):
            return f"{program.name} did not start (log: {self.log(program)})"
        return f"{program.name} started at {self.url(program)}"

    def _command(self, program: Program, path: str, files: MonitoringFiles) -> list[str]:
        if program is PROMETHEUS:
            return [
                path,
                f"--config.file={files.prometheus_configuration}",
                f"--storage.tsdb.path={files.prometheus_data}",
                f"--storage.tsdb.retention.time={RETENTION}",
                f"--web.listen-address={LOOPBACK}:{self._known[program.name].port}",
            ]
        home_path = _grafana_home(Path(path))
        subcommand = ["server"] if Path(path).name == "grafana" else []
        return [path, *subcommand, "--homepath", str(home_path), "--config", str(files.grafana_configuration)]

    def _answers(self, program: Program) -> bool:
        try:
            answer = httpx.get(self.url(program) + program.health_path, timeout=5, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    def _remember(self, program: Program, known: MonitoringProgram) -> None:
        self._remembered.update(monitoring={**self._known, program.name: known})


def _grafana_home(path: Path) -> Path:
    """Returns the directory with Grafana's pages: that of the packages, or of an unpacked archive."""
    packaged = Path("/usr/share/grafana")
    return packaged if packaged.is_dir() else path.resolve().parents[1]
