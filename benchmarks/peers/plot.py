"""The results of `latency.py` as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peers.table import BASE

from edgelstm.pictures.base import new_figure, save_figure

COLORS = {
    "edgelstm": "#1b7f4d",
    "ai-edge-litert": "#2a6f97",
    "tflite-runtime": "#7fb0cc",
    "onnxruntime": "#d9822b",
    "openvino": "#8b5a9f",
    "pytorch": "#b0413e",
    "keras-tensorflow": "#8a8f98",
}
MARKERS = {"float32": "o", "dynamic": "s", "int8": "^"}


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Draws each way as a point in the row of its model: its time as a multiple of LiteRT's in float32, one thread."""
    entries = [entry for entry in document["results"] if entry["threads"] == 1]
    models = list(dict.fromkeys(entry["model"] for entry in entries))
    base = {entry["model"]: entry["statistics"]["p50_us"] for entry in entries if entry["title"] == BASE}
    figure = new_figure(9.5, 0.62 * len(models) + 1.6)
    axis = figure.subplots()
    for title in dict.fromkeys(entry["title"] for entry in entries):
        chosen = [entry for entry in entries if entry["title"] == title]
        form = chosen[0]["form"]
        axis.plot(
            [entry["statistics"]["p50_us"] / base[entry["model"]] for entry in chosen],
            [models.index(entry["model"]) for entry in chosen],
            MARKERS[form],
            color=COLORS[chosen[0]["runtime"]],
            markersize=9,
            markerfacecolor=COLORS[chosen[0]["runtime"]] if form == "float32" else "white",
            markeredgewidth=2,
            label=title,
        )
    axis.axvline(1, color="#c0c5cc", linewidth=1, zorder=0)
    axis.set_xscale("log")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_yticks(range(len(models)), [f"{model}\n{base[model] / 1e3:.3g} ms" for model in models])
    axis.set_ylim(len(models) - 0.5, -0.5)
    axis.grid(color="#e6e8eb", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel("time of one call over that of LiteRT in float32 (ms below the names), one thread; left is faster")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    save_figure(figure, path)
