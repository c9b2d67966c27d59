"""Damaged and hostile inputs: does every one end in numbers or in one clear message?

    python benchmarks/fuzz.py [--number 2000] [--seed 0] [--only KIND] [--index I] [--write]

Each input starts from a good file that difana made. It is damaged (bits, blocks, truncation),
edited (values of other types, missing and repeated keys) or written to be hostile, and read in a
process of its own. An input fails that ends in a traceback, a signal, more than 60 seconds or more
than 1 GB. ``--only KIND --index I`` repeats one input and shows what it prints.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuzz_inputs import KINDS, Good, good_files

RESULT = Path(__file__).parent / "results" / "fuzz.md"
SECONDS, MEGABYTES = 60.0, 1024.0
FAILURES = ("traceback", "signal", "hang", "memory")
HOSTILE: tuple[Any, ...] = (
    None, True, "", "x", "a" * 10_000, -1, 0, 1.5, 10**400, 1e308, -1e308, 2**63, [], {}, [[]],
    [None], ["x"], [1.0] * 1000, {"x": {"x": {}}}, "../../../../etc/passwd", "\0", "%s", "1e999",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin1"), float("nan"), float("inf"),
)  # fmt: skip
TOKENS = (
    b"NaN", b"-Infinity", b"1e999", b"99999999999999999999", b"null", b"[", b"{", b'"', b"\\u0000",
    b"\xff\xfe", b"\xef\xbb\xbf", b"&x;", b"<!--", b"]]>", b": *a", b"&a [*a, *a]", b"!!python/x ",
    b"- " * 500, b"\t", b"\r", b"---\n", b"[" * 3000,
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return bytes that a broken disk or transfer could leave."""
    content, size = bytearray(data), max(len(data), 1)
    start, length = rng.randrange(size), rng.choice([1, 4, 64, 1024])
    how = rng.randrange(7)
    if how == 0:
        for _ in range(rng.choice([1, 1, 3, 30])):
            content[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif how == 1:
        content = content[:start]
    elif how in (2, 3):
        filler = bytes(length) if how == 2 else b"\xff" * length
        content[start : start + length] = filler
    elif how == 4:
        content[start : start + length] = rng.randbytes(length)
    elif how == 5:
        content[start:start] = content[start : start + length]
    else:
        del content[start : start + length]
    return bytes(content)


def with_token(data: bytes, rng: random.Random) -> bytes:
    """Return a text with something hostile put into it."""
    start = rng.randrange(max(len(data), 1))
    stop = start + rng.choice([0, 1, 5])
    return data[:start] + rng.choice(TOKENS) + data[stop:]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in list(items):
        yield value, key
        if isinstance(child, dict | list):
            yield from places(child)


def edited(data: bytes, rng: random.Random) -> bytes:
    """Return JSON with values replaced, removed, repeated or exchanged."""
    spec = copy.deepcopy(json.loads(data))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        every = list(places(spec))
        if not every:
            break
        where, key = rng.choice(every)
        how = rng.randrange(4)
        if how == 0:
            del where[key]
        elif how == 1 and isinstance(where, list):
            where.append(copy.deepcopy(where[key]))
        elif how == 2:
            other, name = rng.choice(every)
            where[key] = copy.deepcopy(other[name])
        else:
            where[key] = copy.deepcopy(rng.choice(HOSTILE))
    return json.dumps(spec).encode()


def changed(good: Good, rng: random.Random) -> bytes:
    """Return a bad version of the bytes of a good file."""
    ways: list[Callable[[bytes, random.Random], bytes]] = [damaged]
    if good.text:
        ways.append(with_token)
    if good.json:
        ways += [edited, edited, edited]
    return rng.choice(ways)(good.data, rng)


def attempt(good: Good, content: bytes, folder: Path, *, show: bool) -> tuple[str, float, str]:
    """Use bad bytes in a child process; return how it ended, its peak memory in MB, and a line."""
    out = folder / "out.txt"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            code = good.use(content, folder)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:  # what a user would see as a traceback
            traceback.print_exc()
            code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    start, status, usage = time.monotonic(), None, None
    while status is None:
        found, ended, usage = os.wait4(pid, os.WNOHANG)
        if found:
            status = ended
        elif time.monotonic() - start > SECONDS:
            os.kill(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return "hang", 0.0, ""
        else:
            time.sleep(0.005)
    text = out.read_text(errors="replace")
    if show:
        print(text)
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    memory = usage.ru_maxrss / 1024 if usage else 0.0
    if os.WIFSIGNALED(status):
        return "signal", memory, signal.Signals(os.WTERMSIG(status)).name
    code = os.WEXITSTATUS(status)
    if memory > MEGABYTES:
        return "memory", memory, lines[-1]
    if code == 1 or "Traceback (most recent call last)" in text:
        return "traceback", memory, lines[-1]
    return {0: "numbers", 2: "refused", 3: "not ok"}.get(code, "traceback"), memory, lines[-1]


def main() -> None:
    """Try everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--index", type=int)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    columns = (
        "input", "tried", "numbers", "refused", "not ok", "traceback", "signal", "over 60 s",
        "over 1 GB", "peak [MB]", "slowest [s]",
    )  # fmt: skip
    how_made = f"`python benchmarks/fuzz.py --number {args.number} --seed {args.seed}`"
    meaning = (
        "each input in a process of its own. `numbers`: the damage left a valid input; `refused`: "
        "exit code 2 with one message; `not ok`: exit code 3."
    )
    lines = ["# Damaged and hostile inputs", "", f"{how_made}; {meaning}", ""]
    lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    print("\n".join(lines), flush=True)
    total, culprits = Counter(), []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kinds = [args.only] if args.only else list(KINDS)
        share = -(-args.number // len(KINDS))
        for kind in kinds:
            goods = good_files(kind, folder)
            for good in goods:  # a kind whose good files are refused would try nothing
                how, _, line = attempt(good, good.data, folder, show=False)
                if how != "numbers" and kind != "expression":
                    raise SystemExit(f"a good {kind} file ended in {how}: {line}")
            counts, peak, slowest = Counter(), 0.0, 0.0
            for index in range(share) if args.index is None else [args.index]:
                rng = random.Random(f"{args.seed}/{kind}/{index}")
                good = goods[index % len(goods)]
                start = time.monotonic()
                how, memory, line = attempt(
                    good, changed(good, rng), folder, show=args.index is not None
                )
                slowest = max(slowest, time.monotonic() - start)
                counts[how] += 1
                peak = max(peak, memory)
                if how in FAILURES:
                    culprits.append(f"--only {kind} --index {index}: {how}, {line[:150]}")
                    print(culprits[-1], flush=True)
            total += counts
            numbers = [counts[how] for how in ("numbers", "refused", "not ok", *FAILURES)]
            row = [kind, sum(counts.values()), *numbers, f"{peak:.0f}", f"{slowest:.1f}"]
            lines.append("| " + " | ".join(map(str, row)) + " |")
            print(lines[-1], flush=True)
    bad = sum(total[how] for how in FAILURES)
    lines += ["", f"{sum(total.values())} inputs, {bad} failures.", *culprits]
    print(lines[-1 - len(culprits)])
    if args.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
