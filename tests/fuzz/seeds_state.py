#!/usr/bin/env python3
"""Writes changes of a database into a folder, as seeds for fuzz_state (fuzz_state.c says how they look): of its header, of the schema, of pages, and
of its end."""
import pathlib
import sys

PAGE = 4096


def changes(*places, missing=0):
    return missing.to_bytes(2, "big") + b"".join(place.to_bytes(3, "big") + bytes([value]) for place, value in places)


SEEDS = {
    "none": changes(), "magic": changes((0, 0)), "page_size": changes((16, 2), (17, 0)), "versions": changes((18, 9), (19, 9)),
    "user_version": changes((63, 99)), "schema": changes((100, 13), (105, 0xFF)), "freelist": changes((35, 7), (39, 9)),
    "leaf": changes((PAGE, 2)), "cells": changes((PAGE + 3, 0xFF), (PAGE + 4, 0xFF)), "pointer": changes((3 * PAGE + 8, 0), (3 * PAGE + 9, 1)),
    "rows": changes(*((i * PAGE + PAGE - 40, 0x41) for i in range(1, 40))),
    "overflow": changes(*((i * PAGE + PAGE - 4, 0xFE) for i in range(1, 40))),
    "short": changes(missing=1), "page": changes(missing=PAGE), "most": changes(missing=65535),
}

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in SEEDS.items():
        (folder / name).write_bytes(seed)
