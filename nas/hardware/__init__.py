"""What an architecture costs on a device: latency and memory."""

from nas.hardware.latency import Latency, Timing, measure_latency
from nas.hardware.lookup import LookupLatency
from nas.hardware.measured import MeasuredLatency
from nas.hardware.memory import peak_memory_mb
from nas.hardware.table import TableLatency

__all__ = [
    "Latency",
    "LookupLatency",
    "MeasuredLatency",
    "TableLatency",
    "Timing",
    "measure_latency",
    "peak_memory_mb",
]
