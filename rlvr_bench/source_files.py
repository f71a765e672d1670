"""Running a user's Python file as a module, always from its source."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import CodeType, ModuleType

__all__ = ["run_source"]


class _Uncached(importlib.machinery.SourceFileLoader):
    """Compiles the source each time. A stored copy misses an edit within the same second, and it litters the folder."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def run_source(file: Path, name: str) -> ModuleType:
    """Run the file as a module of this name, which is then in ``sys.modules``.

    Raises ImportError where there is no such Python file, and whatever the file raises; the name is then taken back.
    """
    spec = importlib.util.spec_from_file_location(name, file, loader=_Uncached(name, str(file)))
    if spec is None or spec.loader is None or file.suffix != ".py" or not file.is_file():
        raise ImportError(f"no Python file at {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
