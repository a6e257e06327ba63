"""How long the two things take that everybody waits for: `import kglearn` (aim: 0.3 s) and `kglearn --help` (0.6 s).

    make speed
"""
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {"import kglearn": ["-c", "import kglearn"], "kglearn --help": ["-c", "from kglearn.cli import main; main(['--help'])"]}


def best_of(words: list[str], times: int = 5) -> float:
    "Seconds of the fastest of a few runs, Python's own start included: the others measure what else the machine did."
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent)
        return time.perf_counter() - start
    return min(once() for _ in range(times))


if __name__ == "__main__":
    for name, words in COMMANDS.items():
        print(f"{name}: {best_of(words):.2f} s")
