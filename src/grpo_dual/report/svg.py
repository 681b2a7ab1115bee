"""matplotlib's SVG -> an element that lives inside a page: its own ids, CSS colours, no style."""

import re
import xml.etree.ElementTree as ET

from grpo_dual.report.colours import ROLES, placeholder

_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"
_DROPPED = (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")
_TEXT_SIZE = re.compile(r"font: (?:[\w.]+ )*([\d.]+px) [^;]*")


def inline(document: str, prefix: str) -> str:
    """The ``<svg>`` element of a document that matplotlib wrote, for use within HTML.

    Its style sheet would act on the whole page and is dropped; ids get the prefix, so that two
    figures never share one; placeholder colours become CSS variables; it takes the width it is
    given. Its text alternative are the elements ``PREFIX-title`` and ``PREFIX-says`` of the page.

    Args:
        document: SVG with ``svg.fonttype: none``.
        prefix: Of every id.
    """
    root = ET.fromstring(document)  # written by matplotlib a moment ago
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in _DROPPED:
                parent.remove(child)
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            element.set(key, _attribute(key, value, prefix))
        element.tag = element.tag.replace(f"{{{_SVG}}}", "")
        link = element.attrib.pop(f"{{{_LINK}}}href", None)
        if link is not None:
            element.set("href", link)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("xmlns", _SVG)
    root.set("class", "drawn")
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-says")
    return ET.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return f"{prefix}-{value}"
    if key == f"{{{_LINK}}}href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    value = value.replace("url(#", f"url(#{prefix}-")
    for role in ROLES:
        value = value.replace(placeholder(role), f"var(--{role.name})")
    return _TEXT_SIZE.sub(r"font-size: \1", value)
