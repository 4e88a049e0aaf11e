"""Makes a table of words in UTF-16 in the segment NAME, which must be empty: no script of a schema may set the encoding.

python3 utf16.py NAME (FDW_CLUSTER is the cluster's directory)
"""

import os
import sqlite3
import sys
from pathlib import Path

[path] = Path(os.environ["FDW_CLUSTER"]).rglob(f"{sys.argv[1]}.sqlite")
with sqlite3.connect(path) as segment:
    segment.execute("PRAGMA encoding = 'UTF-16le'")
    segment.execute("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)")
    segment.execute("CREATE INDEX words_word ON words (word)")
    segment.executemany("INSERT INTO words VALUES (?, ?)", enumerate(["a", "Ā", "～", "\U00010000"], 1))
segment.close()
