"""Hand settings.ini to setuptools: version, description, Python and requirements stand there once."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

settings = ConfigParser()
settings.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
kglearn = settings["DEFAULT"]
extras = {name.removesuffix("_requirements"): value.split() for name, value in kglearn.items() if name.endswith("_requirements")}
# The tests use every extra but one: what benchmarks compare with is large, and slow to install.
extras["dev"] += [need for name in sorted(extras) if name not in ("bench", "dev") for need in extras[name]]

setup(
    version=kglearn["version"],
    description=kglearn["description"],
    author=kglearn["author"],
    keywords=kglearn["keywords"].split(", "),
    python_requires=f">={kglearn['min_python']}",
    install_requires=kglearn["requirements"].split(),
    extras_require=extras,
)
