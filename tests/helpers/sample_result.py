"""A result as result.json holds it, for the tests of what reads results."""

from typing import Any

RECORD: dict[str, Any] = {
    "schema_version": 1,
    "status": "complete",
    "created": "2026-01-01T00:00:00+00:00",
    "task": {
        "name": "retrieval_coco",
        "title": "COCO image-text retrieval (Karpathy test 5K)",
        "protocol": "retrieval",
        "split": "test",
        "settings": {"k_test": 256, "max_tokens": 35, "rerank": "itm", "max_words": 30},
    },
    "main_metric": "r_mean",
    "metrics": {
        "txt_r1": {"value": 81.94, "low": 80.9, "high": 83.0},
        "img_r1": {"value": 64.31, "low": 63.7, "high": 64.9},
        "r_mean": {"value": 86.13, "low": None, "high": None},
    },
    "data": {
        "annotation": "x.json",
        "annotation_sha256": "a" * 64,
        "counts": {"images": 5000, "texts": 25010},
        "limited_from": None,
    },
    "units": {"expected": 480, "done": 480, "failed": 0},
    "failures": [],
    "notes": [],
    "model": {
        "name": "model_base_retrieval_coco",
        "size": "base",
        "file": "model_base_retrieval_coco.pth",
        "sha256": "0123456789abcdef" * 4,
        "parameters": 223_700_000,
        "kind": "retrieval",
        "image_size": 384,
    },
    "self_check": {
        "noun": "pairs",
        "compared": 32,
        "deviation": 3.1e-7,
        "bound": 1e-4,
        "outcome": "ranks",
        "changed": 0,
        "checked": 8,
        "suspect": False,
    },
    "timing": {
        "stages": [
            {"name": "embed", "noun": "items", "items": 30010, "reused_items": 0, "flops": 2e15, "seconds": 10.0},
            {"name": "rerank", "noun": "pairs", "items": 800, "reused_items": 200, "flops": 8e12, "seconds": 4.0},
        ],
        "total_seconds": 15.5,
        "peak_flops": 4e12,
    },
    "memory": {"peak_rss_bytes": 3 * 2**30, "peak_device_bytes": 0},
    "environment": {
        "blipbench": "0.1.0",
        "python": "3.11.7",
        "torch": "2.14.1",
        "platform": "Linux",
        "device": "a CPU",
        "driver": None,
        "precision": "fp32",
        "threads": 2,
        "world_size": 1,
        "git_commit": None,
    },
    "seed": 0,
}
