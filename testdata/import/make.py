#!/usr/bin/env python3
"""Makes vectors.parquet in this folder, as pandas and datasets write such files. Needs pyarrow.

    python3 testdata/import/make.py
"""
import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 7


def main():
    rows = range(ROWS)
    table = pa.table({
        "id": pa.array([10 + n for n in rows], pa.int64()),
        "uuid": pa.array([bytes([n, 255, *range(14)]) for n in rows], pa.binary(16)),
        "embedding": pa.array([[n + 0.5, 1.0, -2.0] for n in rows], pa.list_(pa.float32())),
        "fixed": pa.array([[n, 0.25] for n in rows], pa.list_(pa.float64(), 2)),
        "half": pa.array([[n, 0.5] for n in rows], pa.list_(pa.float16())),
        "source": pa.array([f"page {n}" if n % 2 else None for n in rows]),
        "year": pa.array([2020 + n for n in rows], pa.int32()),
        "when": pa.array([datetime.datetime(2024, 1, 1 + n, 12, 30, 0, 250000) for n in rows], pa.timestamp("ms", tz="UTC")),
        "tags": pa.array([[f"t{n}", "all"] for n in rows], pa.list_(pa.string())),
        "meta": pa.array([{"lang": "en", "score": n / 4} for n in rows]),
    })
    here = Path(__file__).parent
    pq.write_table(table, here / "vectors.parquet", row_group_size=3, compression="zstd")
    pq.write_table(table.select(["id", "embedding"]), here / "snappy.parquet", compression="snappy")


if __name__ == "__main__":
    main()
