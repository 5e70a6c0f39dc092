"""The machine, under node exporter's own names: a team that has one needs no other rule and no other panel."""

from collections.abc import Iterable
from pathlib import Path

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

MODES = ("user", "system", "idle", "iowait", "nice", "irq", "softirq", "steal")


class Host:
    """A collector of CPU, memory and the file systems on which the named folders lie."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(folders)

    def collect(self) -> Iterable[Metric]:
        """The families, as they are now."""
        cpu = CounterMetricFamily("node_cpu_seconds", "Seconds the CPUs spent in each mode.", labels=["cpu", "mode"])
        for number, times in enumerate(psutil.cpu_times(percpu=True)):
            for mode in MODES:
                if hasattr(times, mode):
                    cpu.add_metric([str(number), mode], getattr(times, mode))
        yield cpu
        yield GaugeMetricFamily("node_load1", "Load of a minute.", value=psutil.getloadavg()[0])
        memory = psutil.virtual_memory()
        yield GaugeMetricFamily("node_memory_MemTotal_bytes", "Memory.", value=memory.total)
        yield GaugeMetricFamily("node_memory_MemAvailable_bytes", "Memory to be had.", value=memory.available)
        size = GaugeMetricFamily("node_filesystem_size_bytes", "Size of a file system.", labels=["mountpoint"])
        free = GaugeMetricFamily("node_filesystem_avail_bytes", "Of it, free for us.", labels=["mountpoint"])
        for mount in sorted({mount_of(folder) for folder in self._folders}):
            disk = psutil.disk_usage(str(mount))
            size.add_metric([str(mount)], disk.total)
            free.add_metric([str(mount)], disk.free)
        yield from (size, free)


def mount_of(folder: Path) -> Path:
    """The mount point below which a folder lies, or will lie."""
    path = folder.absolute()
    while not path.is_mount():
        path = path.parent
    return path
