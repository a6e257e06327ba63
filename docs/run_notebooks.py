"""Run notebooks from top to bottom, save their outputs, and clean them; cell ids stay.

    python docs/run_notebooks.py [FILE ...]      (default: all in nbs/)

A benchmark is run with three seeds, or $KGLEARN_SEEDS, and its figures go to docs/benchmarks.
"""
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

DOCS = Path(__file__).resolve().parent
NOTEBOOKS = DOCS.parent / "nbs"
BENCHMARKS = NOTEBOOKS / "benchmarks"


def drop_bars(notebook: nbformat.NotebookNode) -> None:
    "Take out the progress bars: in a file they stand at nought for good."
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not re.search(r"\d+%\|.*it/s\]", output.get("data", {}).get("text/plain", ""))]


def run(path: Path) -> str:
    "Run one notebook; gives the error, or nothing."
    notebook = nbformat.read(path, as_version=4)
    metadata = notebook.metadata.copy()
    is_benchmark = path.resolve().parent == BENCHMARKS
    if is_benchmark:
        os.environ.setdefault("KGLEARN_SEEDS", "3")
        notebook.cells.append(nbformat.v4.new_code_cell(f"import json; from kglearn.bench import result_of; print(json.dumps(result_of({path.stem!r}, figures)))"))
    client = NotebookClient(notebook, timeout=None if is_benchmark else 600, kernel_name="python3", record_timing=False,
                            extra_arguments=["--IPKernelApp.log_level=ERROR"],
                            resources={"metadata": {"path": path.parent}})
    try:
        client.execute()
    except CellExecutionError as error:
        return str(error)
    drop_bars(notebook)
    if is_benchmark:
        result = json.loads(notebook.cells.pop().outputs[0].text)
        (DOCS / "benchmarks" / f"{path.stem}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    notebook.metadata = metadata
    nbformat.write(notebook, path)
    subprocess.run([Path(sys.executable).parent / "nbdev-clean", "--fname", path], check=True)
    return ""


def main(paths: list[Path]) -> int:
    failed = 0
    for path in paths:
        start = time.monotonic()
        print(f"{path.name:30}", end="", flush=True)
        error = run(path)
        print(f"{time.monotonic() - start:5.0f} s" + ("  failed, not saved" if error else ""), flush=True)
        if error:
            print(error, file=sys.stderr)
            failed += 1
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))))
