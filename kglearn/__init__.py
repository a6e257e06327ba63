"""A continuously evolving learning system, as notebooks you run and a library you install.

The names below live in the modules beside them and are fetched at first touch, so that `import kglearn` costs
nothing. Every module is there too: `kglearn.graph`, `kglearn.explain`.
"""
# Written by hand, unlike its neighbours; docs/decisions.md says why.
import importlib
import importlib.util
import pkgutil

__version__ = "0.1.0"  # as in settings.ini; a test compares the two

# No name here may be the name of a module: importing the module would silently replace it.
_HOME = {name: module for module, names in {
    "data": "BadInput Document Mention load_clinic read_documents",
    "text": "Encoder",
    "sources": "read_sources",
    "graph": "Evidence Fact KnowledgeGraph",
    "interchange": "to_networkx to_pandas to_pyg to_rdf",
    "linking": "Linker",
    "reader": "DictionaryTagger Reader",
    "llm": "LLMRelater LLMTagger",
    "gnn": "GraphEncoder GraphSnapshot snapshot",
    "skill": "SkillConfig SkillModel SkillProcessor",
    "policy": "Decision FeedbackLog Policy",
    "system": "LearningSystem",
    "widgets": "GraphExplorer",
    "course": "check",
}.items() for name in names.split()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return sorted({*globals(), *_HOME, *modules})
