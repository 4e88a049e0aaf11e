"""Finds what these tests share with tests/chaos_hdfs. They have a folder of their own, as the two name nodes take minutes."""

import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "chaos_hdfs")]
