"""The public API as the rendered documentation shows it, compared with tests/api.txt.

    python3 tests/api.py [--take]
    python3 tests/api.py --check

It reads what `cargo doc --no-deps` wrote to target/doc: each item that is not hidden, with its fields, variants, methods and
trait implementations. A line that is gone or another one may break a program that uses the library, and one that is new is
promised from then on: `--take` writes the list anew. It also fails if an item's signature names a crate that is not to be
seen from outside, and if an item that does something, by methods of its own, as a trait or as a function, shows no compiled
example. `--check` tries this program itself.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RENDERED = ROOT / "target" / "doc" / "sluicegate"
LIST = ROOT / "tests" / "api.txt"

# What a signature may name: the standard library, and what is a part of the interface on purpose. A JSON value is
# serde_json's, a channel that is waited for among others is crossbeam's, and what can be written is serde's.
PUBLIC = {"sluicegate", "std", "core", "alloc", "serde", "serde_core", "serde_json", "crossbeam_channel"}

# Of those, what rustdoc makes no links of.
UNLINKED = {"Receiver"}

# The lists on an item's page that say nothing of its own: what every type has.
OTHERS = {"synthetic-implementations-list", "blanket-implementations-list", "implementors-list", "foreign-impls"}

MEMBER = re.compile(r"(method|tymethod|associatedconstant|associatedtype)\.")
# A type's name that is no parameter, no constant, and not some other type's own `::Item`.
TYPE = re.compile(r"(?<![\w:])(?!Self\b)[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*\b(?!\s*=)")
FIELD = re.compile(r"(structfield\.|variant\.\w+\.field\.)")


class Page(HTMLParser):
    """An item's page: its declaration, members and traits, each crate that they name, and whether an example is shown."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.declaration, self.members, self.traits, self.reexports = "", [], [], []
        self.crates, self.unshown = {}, set()
        self.methods, self.example = False, False
        self.compiled = True  # Whether the example that is being read is.
        self.region = "own"
        self.takes = None  # What the next `code` or heading is taken for.
        self.into = None  # What is being read, with its tag and how deep in it we are.
        self.linked = 0  # Whether it is a link's text.
        self.plain = []  # What is none.
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        name, style = attrs.get("id") or "", (attrs.get("class") or "").split()
        if name == "trait-implementations-list":
            self.region = "traits"
        elif name in OTHERS or name.startswith("deref-methods"):
            self.region = "others"
        if self.into:
            self.linked += tag == "a"
            self.title(attrs.get("title") or "")
            if tag == self.into[1]:
                self.into[2] += 1
            elif tag == "div":
                self.into[3].append(" ")
                self.plain.append(" ")
            return
        if self.region == "own":
            # What stands with a trait's implementation, or is shown of a type that this one derefs to, is another's.
            self.methods |= name.startswith(("method.", "tymethod."))
            self.compiled = self.compiled if "example-wrap" not in style else "ignore" not in style
            self.example |= "rust-example-rendered" in style and self.compiled
        if tag == "pre" and "item-decl" in style:
            self.into = ["declaration", tag, 1, []]
        elif self.region == "own" and (MEMBER.match(name) or FIELD.match(name)):
            self.takes = name
        elif self.region == "own" and re.fullmatch(r"variant\.\w+", name):
            self.takes = name
        elif name.startswith("reexport."):
            self.takes = name
        elif self.region == "traits" and tag == "section" and name.startswith("impl-"):
            self.takes = name
        elif self.takes and (tag == "code" or (tag in ("h3", "h4") and "code-header" in style)):
            self.into, self.takes = [self.takes, tag, 1, []], None

    def title(self, title):
        words = title.split(" ")
        if len(words) == 2 and "::" in words[1] and self.into[0] != "declaration":
            self.crates.setdefault(words[1].split("::")[0], words[1])

    def handle_endtag(self, tag):
        self.linked -= bool(self.into) and tag == "a"
        if self.into and tag == self.into[1]:
            self.into[2] -= 1
            if self.into[2] == 0:
                self.end()

    def end(self):
        what, _, _, pieces = self.into
        plain = "".join(self.plain)
        self.into, self.plain = None, []
        if not what.startswith(("impl-", "reexport.", "associated", "declaration")):
            # A variant's own name is no type's.
            self.unshown |= set(TYPE.findall(plain)[what.startswith("variant.") and ".field." not in what :])
        text = " ".join("".join(pieces).replace("ⓘ", " ").split())
        text = re.sub(r"\( ", "(", re.sub(r",? \)", ")", text))
        if what == "declaration":
            # An alias has a second one, which says what it stands for.
            self.declaration = self.declaration or text
        elif what.startswith("impl-"):
            self.traits.append(text)
        elif what.startswith("reexport."):
            self.reexports.append(text)
        elif what.startswith("variant.") and ".field." in what:
            self.members.append(f"{what.split('.')[1]}.{text}")
        else:
            self.members.append(text)

    def handle_data(self, data):
        if self.into:
            self.into[3].append(data)
            self.plain.append("" if self.linked else data)


# Kinds of items whose declaration says everything of them.
WHOLE = {"fn", "constant", "static", "type", "macro"}


def lines(link, name, page):
    """What is promised of one item, the item first."""
    kind = link.rsplit("/", 1)[-1].split(".")[0]
    if kind in WHOLE:
        return [f"{name}: {page.declaration}"]
    growing = ", non-exhaustive" if "#[non_exhaustive]" in page.declaration else ""
    own = re.compile(rf"impl (.*) for {name.rsplit('::', 1)[-1]}(?:<'_>)?")
    traits = [(own.fullmatch(line) or [line, line])[1].rstrip(",") for line in page.traits]
    traits = [line for line in traits if line not in ("Drop", "StructuralPartialEq") and "Drop for" not in line]
    traits = [f"is {', '.join(sorted(traits))}"] if traits else []
    return [f"{name} ({kind}{growing})"] + [f"    {line}" for line in sorted(page.members) + traits]


def items(text):
    """Each item of the list of all items: its page and its path."""
    return re.findall(r'<li><a href="([^"]+)">([^<]+)</a></li>', text)


def strangers(name, page):
    """What an item's signature names that is another crate's, or is shown nowhere."""
    others = [f"{name} names {path}" for crate, path in sorted(page.crates.items()) if crate not in PUBLIC]
    return others + [f"{name} names {word}, which is not shown" for word in sorted(page.unshown - UNLINKED)]


def bare(link, name, page):
    """The item, if it does something and no example on its page shows what."""
    kind = link.rsplit("/", 1)[-1].split(".")[0]
    return [name] if (page.methods or kind in ("fn", "trait")) and not page.example else []


def rendered():
    """The whole list, what it names that is not to be seen, what is without an example, and whether any other crate was
    recognised."""
    listed, wrong, without, seen = [], [], [], set()
    all_items = items((RENDERED / "all.html").read_text())
    for link, name in all_items:
        page = Page((RENDERED / link).read_text())
        listed.append(lines(link, name, page))
        wrong += strangers(name, page)
        without += bare(link, name, page)
        seen |= page.crates.keys()
    modules = sorted({link.rsplit("/", 1)[0] if "/" in link else "" for link, _ in all_items} | {""})
    for module in modules:
        page = Page((RENDERED / module / "index.html").read_text())
        path = "::".join(["sluicegate", *module.split("/")]).rstrip(":")
        listed.append([f"in {path}: {line.removesuffix(';')}" for line in sorted(page.reexports)])
    text = "".join(f"{line}\n" for entry in sorted(entry for entry in listed if entry) for line in entry)
    return text, wrong, without, "serde_json" in seen


def diff(old, new):
    """What became of the list, a line each, with the item that it is of."""

    def whole(text):
        lines, item = [], ""
        for line in text.splitlines():
            item = item if line.startswith(" ") else line
            lines.append(f"{item}: {line.strip()}" if line.startswith(" ") else line)
        return lines

    old, new = whole(old), whole(new)
    gone, come = set(old) - set(new), set(new) - set(old)
    return [f"- {line}" for line in old if line in gone] + [f"+ {line}" for line in new if line in come]


def check():
    """Each of the above, on a small page."""
    link = '<a class="struct" href="x" title="struct {}">{}</a>'
    page = Page(
        '<pre class="rust item-decl"><code>#[non_exhaustive]pub struct Door { /* private fields */ }</code></pre>'
        '<span id="structfield.open" class="structfield"><a href="#">§</a><code>open: bool</code></span>'
        '<div id="implementations-list"><section id="method.knock" class="method"><h4 class="code-header">pub fn '
        f'<a class="fn">knock</a>(\n    &amp;self,\n    by: {link.format("ureq::Agent", "Agent")},\n) -&gt; u8</h4>'
        "<div>words</div></section></div>"
        '<div id="trait-implementations-list"><section id="impl-Clone-for-Door"><h3 class="code-header">impl Clone for '
        'Door</h3></section><section id="impl-Drop-for-Door"><h3 class="code-header">impl Drop for Door</h3></section>'
        '<section id="method.clone"><h4 class="code-header">fn clone(&amp;self) -&gt; Self</h4></section></div>'
        '<div id="blanket-implementations-list"><section id="impl-Same-for-T"><h3 class="code-header">impl '
        f'{link.format("typenum::Same", "Same")} for T</h3></section></div>'
    )
    assert lines("a/struct.Door.html", "a::Door", page) == [
        "a::Door (struct, non-exhaustive)",
        "    open: bool",
        "    pub fn knock(&self, by: Agent) -> u8",
        "    is Clone",
    ], lines("a/struct.Door.html", "a::Door", page)
    assert strangers("a::Door", page) == ["a::Door names ureq::Agent"], page.crates
    page = Page(
        '<section id="method.f"><h4 class="code-header">pub fn <a class="fn">f</a>&lt;T: <a>Any</a>&gt;(&amp;self, Hidden, T::Item)'
        " -&gt; Self</h4></section>"
    )
    assert strangers("A", page) == ["A names Hidden, which is not shown"], page.unshown
    page = Page(
        '<pre class="rust item-decl"><code>pub enum E {\n    A,\n}</code></pre>'
        '<section id="variant.A" class="variant"><a href="#">§</a><h3 class="code-header">A</h3></section>'
        '<span id="variant.A.field.b" class="section-header"><a>§</a><code>b: u8</code></span>'
    )
    assert lines("enum.E.html", "E", page) == ["E (enum)", "    A", "    A.b: u8"], page.members
    page = Page('<pre class="rust item-decl"><code>pub fn f() -&gt; u8</code></pre>')
    assert lines("fn.f.html", "f", page) == ["f: pub fn f() -> u8"]
    page = Page('<dt id="reexport.Error"><code>pub use error::<a title="struct sluicegate::error::Error">Error</a>;</code></dt>')
    assert page.reexports == ["pub use error::Error;"]
    example = '<div class="example-wrap{}"><pre class="rust rust-example-rendered"><code>f();</code></pre></div>'
    method = '<section id="method.f"><h4 class="code-header">pub fn f(&amp;self)</h4></section>{}'
    others = '<span id="deref-methods-str"></span>{}<div id="trait-implementations-list">{}</div>'
    diagram = '<div class="example-wrap"><pre class="language-text"><code>a ─▶ b</code></pre></div>'
    shown, ignored = example.format(""), example.format(" ignore")
    for text, expected in [
        (shown + method.format(""), []),
        (method.format(shown), []),
        (method.format(""), ["A"]),
        (diagram + method.format("") + others.format(shown, shown), ["A"]),
        (ignored + method.format(""), ["A"]),
        (ignored + shown + method.format(""), []),
        (others.format(method, method), []),
    ]:
        assert bare("struct.A.html", "A", Page(text)) == expected, text
    assert bare("a/fn.f.html", "a::f", Page("")) == ["a::f"] and bare("trait.T.html", "T", Page("")) == ["T"]
    assert bare("fn.f.html", "f", Page(shown)) == []
    assert diff("A\n    x\n    y\n", "A\n    x\n    z\n") == ["- A: y", "+ A: z"]
    assert diff("A\n    x\nB\n", "A\nB\n    x\n") == ["- A: x", "+ B: x"]


def main():
    if sys.argv[1:] == ["--check"]:
        return check()
    text, wrong, without, recognised = rendered()
    if not recognised:
        wrong.append("no link to serde_json was found: this rustdoc renders otherwise, and other crates' types are not seen")
    if wrong:
        sys.exit("\n".join(["Public signatures name what is not to be seen from outside:", *wrong]))
    if without:
        hint = "Write a short doctest on the item, or on one of its methods, that asserts what its user wants of it."
        sys.exit("\n".join(["Public items show no compiled example:", *without, hint]))
    if sys.argv[1:] == ["--take"]:
        LIST.write_text(text)
        return
    changes = diff(LIST.read_text(), text)
    if changes:
        hint = "Lines with - may break programs that use the library. If that is meant: make api TAKE=1, and commit tests/api.txt."
        sys.exit("\n".join(["The public API is not what tests/api.txt says:", *changes, hint]))
    print(f"tests/api.txt: {sum(not line.startswith(' ') for line in text.splitlines())} public items, as rendered")


if __name__ == "__main__":
    main()
