"""Settings with which each task trains in seconds, for tests: enough to run through, not to learn much."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "text": {"num_train": 64, "num_validation": 16, "num_test": 16, "length": 20, "embedding": 4, "units": 4},
    "topic": {"num_train": 64, "num_validation": 16, "num_test": 16, "length": 20, "embedding": 4, "units": 4},
    "tags": {"num_train": 64, "num_validation": 16, "num_test": 16, "length": 20, "embedding": 4, "units": 4},
    "rows": {"units": 4, "batch_size": 256},
    "video": {"num_train": 32, "num_validation": 8, "num_test": 16, "frames": 4, "units": 4, "dense": 8},
    "pixels": {"num_train": 64, "units": 4, "batch_size": 64},
    "forecast": {"num_rows": 400, "look_back": 12, "units": 4, "filters": 4},
    "fault": {"num_rows": 2500, "look_back": 12, "units": 4, "filters": 4},
    "trend": {"num_rows": 400, "look_back": 12, "units": 4, "filters": 4},
    "speech": {
        "num_train": 60,
        "num_validation": 20,
        "num_test": 20,
        "num_speakers": 6,
        "seconds": 0.5,
        "hop_ms": 30,
        "mels": 20,
        "units": 4,
    },
    "multimodal": {
        "num_train": 60,
        "num_validation": 20,
        "num_test": 20,
        "units": 4,
        "hidden": 8,
        "filters": 4,
        "embedding": 4,
    },
    "hybrid": {
        "num_train": 64,
        "num_validation": 16,
        "num_test": 16,
        "length": 20,
        "encoder_width": 8,
        "encoder_heads": 2,
        "pretrain_epochs": 1,
        "units": 4,
    },
}

LENGTHS: dict[str, int] = {"rows/frames": 9}
"""Time steps to convert with, by "task/variant", where the model leaves them free."""
