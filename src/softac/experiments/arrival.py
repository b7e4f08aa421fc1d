"""What comes back from another machine is checked as the files of a stranger."""

import hashlib
from pathlib import Path

from softac.experiments.mirror import PARTS, SEGMENT, not_of_a_run
from softac.experiments.suite import other_parts
from softac.files import read_hashed, read_regular, seal_is_whole
from softac.run.checkpoint import JSON_LIMIT, read_manifest
from softac.run.folder import config_sha256, read_config
from softac.run.names import CONFIG, FOLDER_NAME, MANIFEST
from softac.words import listed


class Arrival:
    """Refuses what does not belong to the run in `folder`; called as `softac.experiments.mirror.Receiver` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, aside: Path, path: str) -> None:
        """Check what lies at `aside`/`path`.

        Raises:
            CheckpointError: it has another hash than it says, or is of another run.
        """
        if FOLDER_NAME.fullmatch(Path(path).name):
            self._checkpoint(aside, path)
        elif named := SEGMENT.fullmatch(Path(path).name):
            if not hashlib.sha256((aside / path).read_bytes()).hexdigest().startswith(named[1]):
                raise not_of_a_run(path, "does not have the hash that its name says")
        elif path == CONFIG and (wrong := other_parts(read_config(aside), read_config(self.folder))):
            raise not_of_a_run(path, f"describes another run (see {listed(wrong)})")

    def _checkpoint(self, aside: Path, path: str) -> None:
        """One whose files are those of its manifest, and that was made with the configuration that is here."""
        manifest, here = read_manifest(aside / path), config_sha256(read_config(self.folder))
        sealed = seal_is_whole(read_regular(aside / path / MANIFEST, JSON_LIMIT))
        if not sealed or manifest.get("config_sha256") != here:
            raise not_of_a_run(path, "was made with another configuration, or has been changed since")
        try:
            for name, file in manifest["files"].items():
                if name not in PARTS:
                    raise ValueError(name)
                read_hashed(aside / path / name, int(file["size"]), str(file["sha256"]))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise not_of_a_run(path, f"has a manifest that makes no sense ({error!r:.60})") from None
