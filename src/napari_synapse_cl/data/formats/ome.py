"""OME-TIFF: how large the voxels of an image are, and which file each of its planes is in.

References
----------
https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.etree import ElementTree

from napari_synapse_cl.data import tifffile
from napari_synapse_cl.data.formats.places import listed
from napari_synapse_cl.data.formats.tiff_pages import check_not_cut_off
from napari_synapse_cl.errors import InputError

_UUID = re.compile(r"<(?:\w+:)?OME\b[^>]*\bUUID\s*=\s*[\"']([^\"']+)")
_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
_LISTED = 3


@dataclass(frozen=True)
class Block:
    """Planes that follow each other in a file."""

    file: str | None
    uuid: str | None
    """How the metadata call the file; both None for the file that they are in."""
    first: int
    """Number of the first plane."""
    page: int
    """The page it is on."""
    n_planes: int | None
    """How many there are, or None for all pages of the file."""


@dataclass(frozen=True)
class OmeImage:
    """An image of OME metadata."""

    name: str
    """How to call it."""
    axes: str
    shape: tuple[int, ...]
    """Names of its axes and their lengths; the last two are y and x."""
    lengths: tuple[str | None, ...]
    units: tuple[str, ...]
    """Voxel size along z, y, x as it is written, and its units."""
    blocks: tuple[Block, ...] = field(repr=False)
    """Where its planes are."""


class OmeTiff:
    """The metadata of an OME-TIFF, and the files that belong to it.

    Names that lead out of the folder are not followed: the file is looked for beside this one, by
    its name and, where it was renamed, by its UUID.

    Raises
    ------
    InputError
        If the metadata are in a file that is not there.
    xml.etree.ElementTree.ParseError
        If they are damaged.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        root = ElementTree.fromstring(text)
        self._uuid = root.get("UUID")
        self._main = path
        elsewhere = next((e for e in root if _tag(e) == "BinaryOnly"), None)
        if elsewhere is not None:
            self._main, root = self._other_metadata(elsewhere.get("MetadataFile", ""))
        self.images = [
            _image(element, pixels)
            for element in root
            if _tag(element) == "Image"
            for pixels in element
            if _tag(pixels) == "Pixels"
        ]
        self._by_uuid: dict[str, Path] | None = None
        names = {(block.file, block.uuid) for image in self.images for block in image.blocks}
        self._uuids = {uuid for _, uuid in names if uuid is not None}
        # Such a file was renamed.
        self._is_alone = self._uuid is None and len(names) == 1 and self._main == path

    @property
    def is_spread(self) -> bool:
        """Whether planes are in other files than the one that was asked for."""
        blocks = (block for image in self.images for block in image.blocks)
        return self._main != self._path or any(not self._is_own(block) for block in blocks)

    def chosen(self) -> OmeImage:
        """Return the one image with several planes, of several the one that this file is part of.

        Raises
        ------
        InputError
            If there are none or more.
        """
        stacks = [image for image in self.images if prod(image.shape[:-2]) > 1]
        if len(stacks) > 1:
            mine = [i for i in stacks if any(self._is_own(block) for block in i.blocks)]
            stacks = mine or stacks
        if len(stacks) != 1:
            names = listed([image.name for image in stacks or self.images]) or "none"
            raise InputError(
                f"{self._path} tells of {len(stacks)} images with several planes, of which one is "
                f"needed: {names}; save the one to use on its own"
            )
        return stacks[0]

    def pages(self, image: OmeImage) -> list[Any]:
        """Return the pages of tifffile that the planes of an image are, of files that are closed.

        Raises
        ------
        InputError
            If a file or a plane is missing.
        """
        n_planes = prod(image.shape[:-2])
        planes: list[Any] = [None] * n_planes
        absent: dict[str, list[int]] = {}
        for (name, uuid), blocks in _by_file(image.blocks).items():
            file = self._file(name, uuid)
            if file is None:
                told = absent.setdefault(name or str(uuid), [])
                for block in blocks:
                    told += range(block.first, block.first + (block.n_planes or 1))
                continue
            with tifffile.TiffFile(file, is_ome=False) as opened:
                check_not_cut_off(opened, file)
                for block in blocks:
                    count = block.n_planes or len(opened.pages) - block.page
                    if block.page + count > len(opened.pages):
                        raise InputError(
                            f"{file} holds {len(opened.pages)} pages, and {self._path} tells of "
                            f"{block.page + count} in it: the file is not whole"
                        )
                    for k in range(min(count, n_planes - block.first)):
                        planes[block.first + k] = opened.pages[block.page + k]
        if absent:
            whole = [f"{name} ({_planes(numbers)})" for name, numbers in absent.items()]
            verb = "is" if len(whole) == 1 else "are"
            raise InputError(
                f"{self._path} is part of an OME-TIFF of several files, of which "
                f"{listed(whole, _LISTED)} {verb} not beside it"
            )
        missing = [number for number, page in enumerate(planes) if page is None]
        if missing:
            raise InputError(f"{self._path} does not tell where its {_planes(missing)} are")
        if any(page.hash != planes[0].hash for page in planes):
            raise InputError(
                f"the planes that {self._path} tells of differ in size, type or compression"
            )
        return planes

    def _is_own(self, block: Block) -> bool:
        if block.file is None and block.uuid is None:
            return self._main == self._path
        if self._is_alone:
            return True
        if block.uuid is not None and self._uuid is not None:
            return block.uuid == self._uuid
        return block.file is not None and block.file.lower() == self._path.name.lower()

    def _file(self, name: str | None, uuid: str | None) -> Path | None:
        """Return the file of that name or UUID, or None if it is not there."""
        if name is None and uuid is None:
            return self._main
        if uuid is not None and uuid == self._uuid:
            return self._path
        file = None if name is None else self._beside(name)
        called = None if file is None else _uuid_of(file)
        if file is not None and uuid in (None, called):
            return file
        # It was renamed, or another has its name now.
        if self._by_uuid is None:
            files = (f for f in sorted(self._path.parent.iterdir()) if _is_tiff(f))
            self._by_uuid = {found: f for f in files if (found := _uuid_of(f)) is not None}
        renamed = self._by_uuid.get(uuid or "")
        if renamed is not None:
            return renamed
        # Some programs write other UUIDs when they save a file anew.
        return None if called in self._uuids else file

    def _beside(self, name: str) -> Path | None:
        """Return the file of that name in the folder, or None."""
        folder = self._path.parent
        parts = PureWindowsPath(name)
        # Absolute ones are from where it was written.
        inside = not parts.anchor and ".." not in parts.parts
        for file in [folder.joinpath(*parts.parts)] * inside + [folder / parts.name]:
            if parts.name and file.is_file():
                return file
        return None

    def _other_metadata(self, name: str) -> tuple[Path, ElementTree.Element]:
        file = self._beside(name)
        if file is None:
            raise InputError(
                f"{self._path} is part of an OME-TIFF whose metadata are in the file {name}, which "
                "is not beside it"
            )
        text = _description(file) if _is_tiff(file) else file.read_text(encoding="utf-8-sig")
        check_xml(text, file)
        return file, ElementTree.fromstring(text)


def check_xml(text: str, path: Path) -> None:
    """Refuse XML that defines entities, which can unpack to any size.

    Raises
    ------
    InputError
        If it does; no program writes them into images.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"the metadata in {path} define XML entities, which are not followed")


def _image(element: ElementTree.Element, pixels: ElementTree.Element) -> OmeImage:
    axes = pixels.attrib["DimensionOrder"][::-1]
    shape = tuple(int(pixels.attrib[f"Size{axis}"]) for axis in axes)
    sizes = [f"PhysicalSize{axis}" for axis in "ZYX"]
    return OmeImage(
        name=element.get("Name") or element.get("ID") or "without a name",
        axes=axes,
        shape=shape,
        lengths=tuple(pixels.get(size) for size in sizes),
        # The unit that OME gives lengths without one.
        units=tuple(pixels.get(f"{size}Unit", "µm") for size in sizes),
        blocks=tuple(_blocks(pixels, axes, shape)),
    )


def _blocks(pixels: ElementTree.Element, axes: str, shape: Sequence[int]) -> Iterator[Block]:
    for data in pixels:
        if _tag(data) != "TiffData":
            continue
        first = 0
        for axis, n in zip(axes[:-2], shape[:-2], strict=True):
            first = first * n + int(data.get(f"First{axis}", 0))
        count = data.get("PlaneCount", data.get("NumPlanes", "1" if "IFD" in data.attrib else None))
        uuid = next((e for e in data if _tag(e) == "UUID"), None)
        yield Block(
            file=None if uuid is None else uuid.get("FileName"),
            uuid=None if uuid is None else (uuid.text or "").strip() or None,
            first=first,
            page=int(data.get("IFD", 0)),
            n_planes=None if count is None else int(count),
        )


def _by_file(blocks: Sequence[Block]) -> dict[tuple[str | None, str | None], list[Block]]:
    found: dict[tuple[str | None, str | None], list[Block]] = {}
    for block in blocks:
        found.setdefault((block.file, block.uuid), []).append(block)
    return found


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _is_tiff(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES and file.is_file()


def _description(file: Path) -> str:
    with tifffile.TiffFile(file, is_ome=False) as opened:
        page: Any = opened.pages[0]
        return str(page.description)


def _uuid_of(file: Path) -> str | None:
    """Return what a TIFF file calls itself, or None where it is no OME-TIFF."""
    try:
        found = _UUID.search(_description(file))
    except (OSError, tifffile.TiffFileError, IndexError):
        return None
    return None if found is None else found[1]


def _planes(numbers: Sequence[int]) -> str:
    """Return numbers of planes in words: "plane 3", "planes 4 to 7", "5 planes, 1 to 9"."""
    low, high = min(numbers), max(numbers)
    if low == high:
        return f"plane {low}"
    if high - low + 1 == len(numbers):
        return f"planes {low} to {high}"
    return f"{len(numbers)} planes, {low} to {high}"
