import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import harness  # noqa: E402


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"metadata: {harness.metadata_name()}")
