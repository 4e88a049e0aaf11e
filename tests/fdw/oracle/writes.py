"""Random INSERT, UPDATE and DELETE, each followed by the contents of the table."""
from .node import Node
from .queries import Query


def make(maker, r):
    return maker.query()
