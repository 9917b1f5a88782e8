"""The latencies that the documentation states are those that were measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.peers.table import format_tables

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_tables_are_those_of_the_results():
    document = json.loads((BENCHMARKS / "results" / "latency.json").read_text(encoding="utf-8"))
    assert format_tables(document) in (BENCHMARKS / "README.md").read_text(encoding="utf-8")


def test_a_table_has_the_fastest_in_bold_and_a_dash_where_nothing_was_measured():
    entries = [("m", "a", 1, 2000.0), ("m", "b", 1, 500.0), ("n", "a", 1, 3.0), ("m", "a", 2, 1000.0)]
    document = {
        "results": [
            {"model": model, "title": title, "threads": threads, "statistics": {"p50_us": p50_us}}
            for model, title, threads, p50_us in entries
        ]
    }
    assert format_tables(document).splitlines() == [
        "| 1 thread, ms | m | n |",
        "|---|---|---|",
        "| a | 2 | **0.003** |",
        "| b | **0.5** | - |",
        "",
        "| 2 threads, ms | m |",
        "|---|---|",
        "| a | **1** |",
    ]
