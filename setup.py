"""Hand settings.ini to setuptools: version, description, Python and requirements stand there once."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

settings = ConfigParser()
settings.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
kglearn = settings["DEFAULT"]
extras = {extra: kglearn[f"{extra}_requirements"].split() for extra in ("notebook", "interchange", "dev")}
extras["dev"] += extras["notebook"] + extras["interchange"]  # the lessons show widgets, and files of others

setup(
    version=kglearn["version"],
    description=kglearn["description"],
    author=kglearn["author"],
    keywords=kglearn["keywords"].split(", "),
    python_requires=f">={kglearn['min_python']}",
    install_requires=kglearn["requirements"].split(),
    extras_require=extras,
)
