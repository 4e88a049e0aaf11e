"""The Python trough's own client modules, as PyPI has them (original.txt).

Its package imports its servers, which need HDFS clients that no Python of today builds; so the package is entered without its
`__init__`, of which the clients need the log level TRACE only. They were written for a driver whose functions were the
module's; those of the driver that doublethink pins are an object's, which takes the module's place. Nothing else is changed.
"""

import importlib
import importlib.metadata
import logging
import sys
import types

from rethinkdb import RethinkDB


def load():
    """The modules `trough.client`, `trough.db_api` and `trough.shell`."""
    try:
        installed = importlib.metadata.distribution("trough")
    except importlib.metadata.PackageNotFoundError as e:
        raise RuntimeError("the Python trough is not installed: pip install --no-deps -r tests/compat/original.txt") from e
    package = types.ModuleType("trough")
    package.__path__ = [str(installed.locate_file("trough"))]
    sys.modules["trough"] = package
    logging.addLevelName(logging.DEBUG // 2, "TRACE")
    logging.Logger.trace = lambda self, message, *args, **kwargs: self.log(logging.DEBUG // 2, message, *args, **kwargs)
    modules = [importlib.import_module(f"trough.{name}") for name in ("client", "db_api", "shell")]
    for module in modules[:2]:
        module.r = RethinkDB()
    return modules


if __name__ == "__main__":
    load()[2].trough_shell(["trough-shell", *sys.argv[1:]])
