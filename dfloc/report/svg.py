"""SVG as matplotlib writes it, made small and safe to stand inside a page: own ids, short numbers, texts on points."""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

SPACE, LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
DRAWN = ("path", "use")


def written(figure: Any, prefix: str, titles: Mapping[str, tuple[str, Sequence[str]]], **root_has: str) -> str:
    """Return a figure of matplotlib as SVG; the same text for the same figure.

    Args:
        figure: it.
        prefix: of ids, so that no two drawings of one page share one.
        titles: by the gid of an artist its name and a text for each part of it.
        root_has: attributes of the whole.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    sink = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(sink.getvalue())
    for node in root.iter():
        node.tag = node.tag.partition("}")[2]
        node.text, node.tail = (node.text or "") if node.tag in ("text", "tspan") else "", ""
        if LINK in node.attrib:
            node.set("href", node.attrib.pop(LINK))
    for gid, (name, texts) in titles.items():
        _say(root, gid, name, texts)
    _share(root)
    used = re.findall(r"#([\w.-]+)", " ".join(value for node in root.iter() for value in node.attrib.values()))
    _clean(root, {name: f"{prefix}-{place}" for place, name in enumerate(dict.fromkeys(used))})
    width, height = (root.get(side, "").removesuffix("pt") for side in ("width", "height"))
    root.attrib.clear()
    root.attrib.update({"xmlns": SPACE, "viewBox": f"0 0 {width} {height}", **root_has})
    return ET.tostring(root, encoding="unicode")


def _say(root: ET.Element, gid: str, name: str, texts: Sequence[str]) -> None:
    """Give an artist its name, and its parts their texts, in the order in which they are drawn."""
    group = next((node for node in root.iter("g") if node.get("id") == gid), None)
    if group is None:
        return
    if name:
        group.set("data-name", name)
    hidden = {id(node) for defs in group.iter("defs") for node in defs.iter()}
    parts = [node for node in group.iter() if node.tag in DRAWN and id(node) not in hidden]
    for node, text in zip(parts, texts, strict=bool(texts)):
        ET.SubElement(node, "title").text = text


def _share(root: ET.Element) -> None:
    """Say what all uses of a path look like once, at the path; what it says of itself still wins."""
    uses: dict[str, list[ET.Element]] = {}
    for node in root.iter("use"):
        uses.setdefault(node.get("href", "").removeprefix("#"), []).append(node)
    for node in root.iter("path"):
        those = uses.get(node.get("id", ""), [])
        if len({each.get("style", "") for each in those}) == 1:
            said = f"{those[0].attrib.pop('style', '')};{node.get('style', '')}".split(";")
            looks = {name.strip(): value for name, sign, value in (each.partition(":") for each in said) if sign}
            node.set("style", ";".join(f"{name}:{value}" for name, value in looks.items()))
            for each in those[1:]:
                each.attrib.pop("style", None)


def _clean(node: ET.Element, ids: Mapping[str, str]) -> None:
    """Drop what draws nothing, make ids one's own, and numbers and styles short."""
    kept: list[ET.Element] = []
    for child in node:
        if child.tag == "metadata" or child.find("style") is not None:
            continue
        _clean(child, ids)
        if child.tag in ("g", "defs") and not len(child):
            continue
        kept += list(child) if child.tag == "g" and not child.attrib else [child]
    node[:] = kept
    for name, value in list(node.attrib.items()):
        if name == "id" and value not in ids:
            del node.attrib["id"]
        elif value.startswith("rotate(-0 "):
            del node.attrib[name]
        else:
            node.set(name, _short(name, value, ids))


def _short(name: str, value: str, ids: Mapping[str, str]) -> str:
    if name == "id":
        return ids[value]
    if name == "href" or "url(#" in value:
        return re.sub(r"#([\w.-]+)", lambda found: f"#{ids[found[1]]}", value)
    if name in ("d", "x", "y", "transform"):
        rounded = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value.strip())
        return re.sub(r" *([A-Za-z]) *| +", lambda found: found[1] or " ", rounded) if name == "d" else rounded
    return re.sub(r"([:;]) |font-family:[^;]*;?", r"\1", value) if name == "style" else value
