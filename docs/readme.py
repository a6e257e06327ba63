"""Write README.md from nbs/index.ipynb.

    python docs/readme.py

Links between notebooks are made to start at the top of the repository.
"""
import re
from pathlib import Path

from nbconvert import MarkdownExporter
from nbconvert.preprocessors import RegexRemovePreprocessor

ROOT = Path(__file__).resolve().parent.parent


def readme() -> str:
    "What README.md should hold."
    exporter = MarkdownExporter()
    exporter.register_preprocessor(RegexRemovePreprocessor(patterns=[r"\s*\Z", r"\s*#\|\s*(hide|default_exp)\b"]), True)
    text, _ = exporter.from_filename(str(ROOT / "nbs" / "index.ipynb"))
    text = re.sub(r"^#\|.*\n", "", text, flags=re.M)
    text = re.sub(r"\]\((?=\w[\w/]*\.ipynb)", "](nbs/", text)
    text = re.sub(r"\]\(\.\./", "](", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
