"""How numbers are written for a person."""

from __future__ import annotations


def number_text(value: float | None) -> str:
    """Return six significant digits, all digits of an integer, or a dash."""
    if value is None:
        return "-"
    value = float(value)  # JSON has whole numbers, too
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def duration(seconds: float) -> str:
    """Return ``42 s``, ``3:05 min`` or ``2:03 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def costs_text(params: int, flops: int) -> str:
    """Return size and arithmetic of a network: ``1,073,466 parameters · 153.27 M FLOPs``."""
    return f"{params:,} parameters · {flops / 1e6:,.2f} M FLOPs"
