"""A query as a tree: text with holes. A node knows simpler things that may stand in its place, so that the minimiser can cut
a query without knowing SQL."""


class Node:
    """`parts` are strings and nodes, printed one after the other; `alts` are simpler replacements of the whole."""

    __slots__ = ("parts", "alts")

    def __init__(self, parts, alts=()):
        self.parts = list(parts)
        self.alts = list(alts)

    def __str__(self):
        return "".join(map(str, self.parts))


class Many(Node):
    """A list of which the minimiser may drop all but `least` elements. Nothing is printed for an empty one."""

    __slots__ = ("sep", "least", "before", "after")

    def __init__(self, items, sep=", ", least=1, before="", after=""):
        super().__init__(items)
        self.sep, self.least, self.before, self.after = sep, least, before, after

    def __str__(self):
        return self.before + self.sep.join(map(str, self.parts)) + self.after if self.parts else ""


def E(form, *children, alts=()):
    """A node of a format with `{}` for each child."""
    pieces = form.split("{}")
    assert len(pieces) == len(children) + 1, form
    parts = [pieces[0]]
    for child, piece in zip(children, pieces[1:]):
        parts += [child, piece]
    return Node([p for p in parts if p != ""], alts)


def optional(node):
    """A clause that may be dropped."""
    return Node([node], alts=[""])


def slots(root):
    """Every place (parent, index) of the tree that holds a node, outermost first."""
    queue = [root]
    while queue:
        parent = queue.pop(0)
        for i, part in enumerate(parent.parts):
            if isinstance(part, Node):
                yield parent, i
                queue.append(part)
