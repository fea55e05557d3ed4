"""The gateway beside programs that others wrote: each sends what it is made to send, and each answer is known beforehand.

    python run.py            all of them (`make outside`)
    python run.py --quick    curl, and nginx in front with the openai SDK through it (part of `make test`)
    python run.py WORD       those whose name has this word

Every run is bounded in number and time and stays on this machine. After each, the gateway serves within a second, its sums
balance, and its threads, descriptors and connections are back where they were. What a missing tool leaves out is said.
"""

import os
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk"))

import attacks  # noqa: E402
import curls  # noqa: E402
import front  # noqa: E402
import loads  # noqa: E402
from house import House, Missing, Wrong  # noqa: E402

QUICK = [*curls.CASES, *front.CASES]
ALL = [*QUICK, *loads.CASES, *attacks.CASES]


def main(words):
    quick = "--quick" in words
    words = [word for word in words if word != "--quick"]
    cases = [case for case in (QUICK if quick else ALL) if all(word in case.name for word in words)]
    failed, left_out = 0, []
    print(f"{'what':34} {'came of it':64} {'threads':>9} {'files':>9} {'MB':>6} {'back':>7}")
    with tempfile.TemporaryDirectory() as folder, House(Path(folder)) as house:
        for case in cases:
            before = house.at_rest()
            try:
                with house.watched() as peak:
                    outcome = case.run(house)
                back = house.back_to(before)
                figures = f"{peak.threads:4}/{before.threads:4} {peak.files:4}/{before.files:4} {peak.mb:6.1f} {back:5.1f} s"
            except Missing as missing:
                left_out.append(f"{case.name}: {missing}")
                continue
            except Wrong as wrong:
                failed += 1
                outcome, figures = f"WRONG: {wrong}", ""
            print(f"{case.name:34} {outcome:64} {figures}", flush=True)
    ran = len(cases) - len(left_out)
    print(f"\n{ran - failed} passed, {failed} failed (peak/base of threads and of open files; peak memory; time until back)")
    if left_out:
        print("LEFT OUT:", *left_out, sep="\n  ")
        list_path = os.environ.get("LEFT_OUT")
        if list_path:
            with open(list_path, "a") as file:
                file.writelines(f"{line}\n" for line in left_out)
    sys.exit(1 if failed or not ran or (left_out and quick and os.environ.get("CI") == "true") else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
