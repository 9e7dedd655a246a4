"""Fill in what a built package tells of where the project lives, and the links of its README."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(?<=\]\()(?![a-z+]+:|#|/)(?P<target>[^)\s]+)(?=\))")
"""The target of a link or picture that is neither an address nor a place in the page itself."""
PICTURES = (".png", ".svg", ".jpg", ".gif")


class CustomMetadataHook(MetadataHookInterface):
    """Adds ``urls`` and ``readme`` to the metadata, from two settings in ``pyproject.toml``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the metadata of a build."""
        repository = str(self.config["repository"]).rstrip("/")
        documentation = str(self.config["documentation"])
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        if repository:
            # A release is read long after the main branch has gone on.
            ref = f"v{metadata['version']}"
            if ".dev" in ref:
                ref = "main"
            text = with_addresses(text, repository, ref)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = urls(repository, documentation)


def urls(repository: str, documentation: str) -> dict[str, str]:
    """Return the addresses of a package by their names; those that are empty are left out."""
    found = {"Documentation": documentation}
    if repository:
        found |= {
            "Repository": repository,
            "Issues": f"{repository}/issues",
            "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        }
    return {name: address for name, address in found.items() if address}


def with_addresses(text: str, repository: str, ref: str) -> str:
    """Return Markdown whose relative links and pictures are addresses in the repository."""

    def address(link: re.Match[str]) -> str:
        target = link["target"]
        kind = "raw" if target.lower().endswith(PICTURES) else "blob"
        return f"{repository}/{kind}/{ref}/{target}"

    return RELATIVE.sub(address, text)
