"""All networks on all machines of a space, on Dask's workers; what is done already is not done again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.errors import InputError, ToolError
from accel.explore.point import FAILED, LOST, Network, Point, measure
from accel.explore.store import Store
from accel.machine.config import ArchConfig
from accel.network.graph_file import dump_graph, parse_graph
from accel.quantizer.reconstruct import Stage, silent
from accel.report.energy import EnergyTable

if TYPE_CHECKING:
    from distributed import Client

AHEAD = 4
"""Points that are handed out beforehand for each worker: the scheduler never holds the whole space."""
PATIENCE = 60
"""Seconds without a point after which it matters whether workers are left."""


class Job(NamedTuple):
    """A point that is still to be found."""

    network: Network
    config: ArchConfig


def explore(
    networks: Sequence[Network], configs: Sequence[ArchConfig], path: Path, *, energies: EnergyTable | None = None,
    workers: int | None = None, scheduler: str | None = None, stage: Stage = silent,
) -> list[Point]:  # fmt: skip
    """Compile and time every network for every machine; results go to the file `path` one by one.

    Parameters
    ----------
    networks : sequence of Network
    configs : sequence of ArchConfig
    path : Path
        SQLite file; points that it holds are taken from it, except those whose worker died.
    energies : EnergyTable, optional
    workers : int, optional
        Local processes; as many as cores by default.
    scheduler : str, optional
        Address of a Dask scheduler whose workers have the same version of this package; no local processes then.
    stage : callable, optional
        Announces progress.

    Returns
    -------
    list of Point
        Networks in their order, and machines in theirs.

    Raises
    ------
    InputError
        The file holds something else, or the scheduler cannot be reached.
    ToolError
        Dask is not installed, the disk is full, or workers have another version.
    """
    check_library()
    table = energies or EnergyTable()
    store = Store(path, version(), table)
    try:
        found = store.points()
        jobs = [Job(network, config) for network in networks for config in configs]
        open_jobs = [job for job in jobs if _is_open(found.get(_key(job)))]
        advance = stage("explore", len(open_jobs))
        if open_jobs:
            with _client(workers, scheduler) as client:
                for point in _measured(client, open_jobs, table):
                    store.add(point)
                    found[point.key] = point
                    advance()
        return [found[_key(job)] for job in jobs]
    finally:
        store.close()


def check_library() -> None:
    """Raise `ToolError` unless Dask is installed."""
    if find_spec("distributed") is None:
        raise ToolError("exploring needs Dask, which is not installed: pip install 'accel[explore]'")


def version() -> str:
    """Digest of the sources that decide about a point: equal ones give equal points."""
    import accel
    import compiler
    import sim

    digest = hashlib.sha256()
    for package in (accel, compiler, sim):
        folder = Path(str(package.__file__)).parent
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{file.relative_to(folder.parent)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _key(job: Job) -> tuple[str, str]:
    return job.network.digest, job.config.fingerprint()


def _is_open(point: Point | None) -> bool:
    return point is None or point.status == LOST


@contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[Client]:
    """A client of a scheduler that runs already, or of local processes."""
    import logging

    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--scheduler must be the address of a Dask scheduler, got {scheduler!r}: {error}"
            ) from None
        with client:
            others = {name for name, digest in client.run(version).items() if digest != version()}
            if others:
                raise ToolError(f"all workers must have this version of accel, got another on {sorted(others)[0]}")
            yield client
        return
    settings = {"distributed.scheduler.allowed-failures": 1, "distributed.comm.timeouts.connect": 60}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers or os.cpu_count(),
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _measured(client: Client, jobs: Sequence[Job], energies: EnergyTable) -> Iterator[Point]:
    """Points as they are found. Networks go to each worker once, also to those that start later.

    A worker that dies takes along the jobs that wait behind the deadly one, so those of dead workers run once more,
    each alone: who dies then is to blame.
    """
    networks = {job.network.digest: dump_graph(job.network.graph) for job in jobs}
    client.register_plugin(_plugin(networks))
    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    suspects: list[Job] = []
    for job, future in _futures(client, jobs, energies, AHEAD * max(workers, 1)):
        if _is_killed(error := future.exception()):
            suspects.append(job)
        else:
            yield future.result() if error is None else _without_figures(job, error)
    for job, future in _futures(client, suspects, energies, 1):
        error = future.exception()
        yield future.result() if error is None else _without_figures(job, error)


def _futures(client: Client, jobs: Sequence[Job], energies: EnergyTable, ahead: int) -> Iterator[tuple[Job, Any]]:
    """Jobs with their finished futures, as they finish; `ahead` of them are handed out at a time."""
    waiting, started = iter(jobs), dict[str, Job]()

    def submit(count: int) -> set[Any]:
        futures = set()
        for job in islice(waiting, count):
            name, digest = job.network.name, job.network.digest
            future = client.submit(_measure, name, digest, job.config, energies, pure=False)
            started[future.key] = job
            futures.add(future)
        return futures

    pending = submit(ahead)
    while pending:
        done, pending = _finished(client, pending)
        for future in done:
            yield started.pop(future.key), future
        pending |= submit(len(done))


def _finished(client: Client, pending: set[Any]) -> tuple[set[Any], set[Any]]:
    """Futures that are done, at least one, and the others; ToolError if nobody is left to work on them."""
    from distributed import wait

    while True:
        try:
            done, others = wait(pending, timeout=PATIENCE, return_when="FIRST_COMPLETED")
            return set(done), set(others)
        except TimeoutError:
            if not client.scheduler_info(n_workers=-1)["workers"]:
                raise ToolError(
                    "no worker is left; the points before are kept: repeat the command to continue"
                ) from None


def _is_killed(error: BaseException | None) -> bool:
    """Whether the worker died, not the job raised an error."""
    return type(error).__name__ == "KilledWorker"


def _without_figures(job: Job, error: BaseException) -> Point:
    """The point of a job whose worker died or raised an error."""
    died = _is_killed(error)
    text = "the worker died, also on this point alone (out of memory?)" if died else f"{type(error).__name__}: {error}"
    return Point.without_figures(job.network.name, job.network.digest, job.config, LOST if died else FAILED, text)


def _plugin(networks: dict[str, bytes]) -> Any:
    from distributed import WorkerPlugin

    class Networks(WorkerPlugin):  # type: ignore[misc]
        """The networks of an exploration on a worker."""

        name = "accel-networks"

        def setup(self, worker: Any) -> None:
            worker.accel_networks = {digest: parse_graph(data) for digest, data in networks.items()}

    return Networks()


def _measure(name: str, digest: str, config: ArchConfig, energies: EnergyTable) -> Point:
    """On a worker."""
    from distributed import get_worker

    return measure(name, digest, get_worker().accel_networks[digest], config, energies)
