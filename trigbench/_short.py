"""The checkout's short names: `core` and `workflow` at its top are trigbench.core and trigbench.workflow themselves.

Each module is imported once, under its whole name, and handed on under the short one: so a class is the same
whichever way it is reached. Installed, neither short name is there, and somebody else's `core` is theirs.
"""

import importlib
import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any


def stand_for(package: str) -> None:
    """Let `package` and all below it be the modules of trigbench; called as `package` is imported."""
    sys.meta_path.insert(0, _Same(package))
    sys.modules[package] = importlib.import_module(f"trigbench.{package}")


class _Same(MetaPathFinder, Loader):
    """Finds `core.x` where Python would look for it, and gives trigbench.core.x."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{self.package}."):
            return None
        found = importlib.util.find_spec(f"trigbench.{name}")
        if found is None:
            return None
        return ModuleSpec(name, self, origin=found.origin, is_package=found.submodule_search_locations is not None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"trigbench.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run; the import of the short name has replaced its spec, which is put back."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state

    def get_code(self, name: str) -> CodeType | None:
        """For `python -m workflow.x`."""
        found = importlib.util.find_spec(f"trigbench.{name}")
        loader: Any = found and found.loader
        return loader.get_code(f"trigbench.{name}")
