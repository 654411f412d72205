"""Names of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_attach(
    package: str, names: Mapping[str, Sequence[str]], submodules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the ``__getattr__`` and ``__dir__`` of a package whose names are imported when they are first used.

    Type checkers do not follow these calls. The package must therefore also import the names under
    ``if TYPE_CHECKING``, and list them in ``__all__``.

    Args:
        package: The package's ``__name__``.
        names: Module -> names that the package takes from it.
        submodules: Modules that are also attributes of the package.

    Raises:
        ValueError: If a name equals the name of its module, because importing the module would replace the name.

    Example:
        ``__getattr__, __dir__ = lazy_attach(__name__, {"relkt.index": ["Index", "search"]})``
    """
    modules = {name: module for module, exports in names.items() for name in exports}
    for name, module in modules.items():
        if module == f"{package}.{name}":
            raise ValueError(f"names: {module} hides its own {name!r} once it is imported; rename the module")

    def __getattr__(name: str) -> Any:
        if name in submodules:
            return import_module(f"{package}.{name}")
        if name in modules:
            return getattr(import_module(modules[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules, *submodules})

    return __getattr__, __dir__
